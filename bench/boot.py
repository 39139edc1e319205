"""
What a shard process costs before its first heartbeat: ``python -m bench.boot``.

Forked from the template, beside one that is a new interpreter, in turn. The measurement ends at the
first heartbeat, so no node is involved. It runs in its own process, because a template needs a
process with a single thread.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import click
import msgspec

from bench.budget import Line, Scale, budget, lines_of
from bench.use import memory
from collector.control.launch import Launch, spawn
from collector.control.template import Template
from shards import worker
from shards.adapters import registry
from shards.protocol.settings import Endpoints, ShardConfig

_PATIENCE_S: Final = 30.0


class Cost(msgspec.Struct):
    """The cost of one process, until its first heartbeat."""

    cpu_ms: float
    rss: float
    """MiB, like the others."""
    pss: float
    uss: float
    seconds: float


def _config() -> ShardConfig:
    # No aggregator answers there: the shard waits, with its modules loaded and its loop turning.
    nobody = "ipc:///tmp/bench-boot-nobody"
    at = ("127.0.0.1:1",)
    found = Endpoints(
        chain_ws=("ws://127.0.0.1:1",), chain_stream=at, chain_grpc=at, rpc=("http://127.0.0.1:1",)
    )
    return ShardConfig(
        shard=0, epoch=1, source="chain-ws", endpoints=found, push=nobody, link=nobody, markets=(), log_level="ERROR"
    )  # fmt: skip


def cost(launch: Launch) -> Cost:
    """Start a shard, and return its cost at the first heartbeat."""
    began = time.monotonic()
    process, beat = launch("shard 0", worker.main, _config())
    while not beat.value:
        if process.exitcode is not None or time.monotonic() > began + _PATIENCE_S:
            raise RuntimeError(f"the shard does not begin: exit code {process.exitcode}")
        time.sleep(0.001)
    seconds = time.monotonic() - began
    pid = process.pid or 0
    threads = Path(f"/proc/{pid}/task").iterdir()
    cpu_ns = sum(int((one / "schedstat").read_text().split()[0]) for one in threads)
    held = memory(pid)
    os.kill(pid, signal.SIGTERM)
    process.join(_PATIENCE_S)
    process.close()
    return Cost(cpu_ns / 1e6, held.rss, held.pss, held.uss, seconds)


def compare(runs: int) -> list[tuple[Cost, Cost]]:
    """Measure both in turn: forked, spawned."""
    with contextlib.closing(Template(registry.preload)) as template:
        if not template.pid:
            raise RuntimeError("this system forks no template")
        # The first one waits until the template has finished importing.
        cost(template.launch)
        return [(cost(template.launch), cost(spawn)) for _ in range(runs)]


@budget("11")
def forked_over_spawned(scale: Scale) -> list[Line]:
    """A shard forked from the template, beside a new interpreter, both to the first heartbeat."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.boot", "--json", "--runs", str(scale.runs)],
        check=True,
        capture_output=True,
    )
    pairs = msgspec.json.decode(done.stdout, type=list[tuple[Cost, Cost]])
    limits = {
        field: (f"{what} of a shard at its first heartbeat, forked / a new interpreter", 0.5, "")
        for field, what in (("cpu_ms", "CPU"), ("uss", "memory of its own"))
    }
    lines = lines_of("11", limits)
    for forked, spawned in pairs:
        for field, line in lines.items():
            mine, other = getattr(forked, field), getattr(spawned, field)
            line.values.append(mine / other)
            line.note = f"{mine:.1f} / {other:.1f} {'ms' if field == 'cpu_ms' else 'MiB'}, the last"
    return list(lines.values())


@click.command()
@click.option("--runs", default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON line.")
def main(runs: int, as_json: bool) -> None:
    """Measure both ways to start a shard."""
    pairs = compare(runs)
    if as_json:
        print(msgspec.json.encode(pairs).decode())
        return
    for pair in pairs:
        for name, one in zip(("forked", "spawned"), pair, strict=True):
            print(
                f"{name:8} CPU {one.cpu_ms:6.1f} ms  RSS {one.rss:5.1f}  PSS {one.pss:5.1f}  "
                f"USS {one.uss:5.1f} MiB  after {one.seconds * 1e3:6.1f} ms"
            )


if __name__ == "__main__":
    main()
