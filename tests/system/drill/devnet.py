"""B20: a devnet that is left running."""

import subprocess
import time

import psutil

from tests.system.drill.registry import Stage, drill
from tests.system.running import devnet

_MEMORY_MB = 700


@drill("B20", "a devnet is left running", needs_node=True, is_short=False)
def left_running(stage: Stage) -> None:
    """Its node's memory is bounded, and old states leave the disk."""
    with devnet("--block-time", "0.5", "--home", str(stage.folder)) as running:
        node = psutil.Process(running.info["pids"]["node"])
        stage.broke("a devnet with a block each 0.5 s")
        for _ in range(10):
            time.sleep(60)
            memory = node.memory_info().rss / 1e6
            disk = subprocess.check_output(["du", "-sm", stage.folder], text=True).split()[0]
            stage.note("seen", f"{memory:.0f} MB of memory, {disk} MB of disk")
            assert memory < _MEMORY_MB
        stage.note("healed", f"never above {_MEMORY_MB} MB")
