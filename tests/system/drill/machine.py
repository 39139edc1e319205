"""B12 to B19: the machine below a collector has its day."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.simulator.client import simulator
from tests.system.drill.registry import Stage, drill
from tests.system.running import Running, collector, run

_SHORT_STALL_S = 4.0


@contextlib.contextmanager
def _live(
    stage: Stage,
    *options: str,
    publish: str = "",
    before: tuple[str, ...] = (),
    cwd: Path | None = None,
    tables: str = "",
) -> Iterator[Running]:
    """Run a collector of a busy exchange until everything is live."""
    with simulator("--markets", "4", "--block-time", "0.2", "--touched", "all") as exchange:
        config = ("--config", str(exchange.config(stage.folder, extra=tables)), "--shards", "2")
        with collector(
            stage.folder, *config, *options, publish=publish, before=before, cwd=cwd
        ) as running:
            running.await_live()
            yield running


def _kill(stage: Stage, running: Running, name: str) -> None:
    former = running.pid(name)
    os.kill(former, signal.SIGKILL)
    stage.note("done", f"{name} is killed")
    stage.await_(
        "healed",
        f"another {name} does its work, everything is live",
        lambda: running.pid(name) not in (0, former) and running.live(),
        within_s=40,
    )


def _logged(running: Running, text: str) -> Callable[[], bool]:
    return lambda: text in running.log


@drill("B12", "the disk of the state folder is full")
def full_disk(stage: Stage) -> None:
    """A warning and not ready; collecting goes on; it heals by itself."""
    disk = stage.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], check=True)
    try:
        with _live(stage, "--state", str(disk / "state")) as running:
            filler = disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            stage.broke("the disk is full")
            stage.await_(
                "said", "a warning", _logged(running, "cannot save the ledger"), within_s=30
            )
            stage.await_(
                "said", "the status", lambda: running.status()["state"]["error"], within_s=30
            )
            _kill(stage, running, "shard 0")
            filler.unlink()
            stage.note("done", "there is room again")
            stage.await_(
                "healed", "the ledger is saved", _logged(running, "is saved again"), within_s=30
            )
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@drill("B13", "the runtime folder is removed")
def removed_folder(stage: Stage) -> None:
    """It is made again, and every process can be replaced."""
    with _live(stage) as running:
        (folder,) = running.temporary.glob("collector-*")
        shutil.rmtree(folder)
        stage.broke("the folder with the sockets is removed")
        stage.await_("seen", "the sockets are there again", (folder / "link").exists, within_s=30)
        stage.await_(
            "said", "a warning", _logged(running, "was removed; creating it again"), within_s=30
        )
        for name in ("shard 0", "aggregator"):
            _kill(stage, running, name)


@drill("B14", "a second start on the same ipc endpoint")
def second_start(stage: Stage) -> None:
    """It is refused, and the first one can still be reached."""
    publish = f"ipc://{stage.folder}/frames"
    with _live(stage, publish=publish) as running:
        config = str(stage.folder / "collector.toml")
        done = run("start", "--config", config, "--publish", publish, "--state", "none")
        stage.broke(f"a second start ended with {done.returncode}")
        assert done.returncode == 3
        stage.note("said", done.stderr.strip().splitlines()[-1])
        stage.await_("healed", "the first one answers", running.live, within_s=30)


@drill("B15", "more readers than descriptors")
def few_descriptors(stage: Stage) -> None:
    """No more are accepted until some leave."""
    with _live(stage, before=("prlimit", "--nofile=128:128")) as running:
        aggregator = running.pid("aggregator")
        address = ("127.0.0.1", int(running.publish.rpartition(":")[2]))
        with contextlib.ExitStack() as stack:
            for _ in range(300):
                connection = stack.enter_context(socket.socket())
                connection.settimeout(0.5)
                with contextlib.suppress(OSError):
                    connection.connect(address)
            stage.broke("300 connections; the limit is 128 descriptors")
            stage.await_(
                "said",
                "a warning",
                _logged(running, "no more subscribers may connect"),
                within_s=30,
            )
        stage.note("done", "they leave")
        stage.await_("healed", "readers may connect again", running.live, within_s=30)
        assert running.pid("aggregator") == aggregator


@drill("B16", "the working directory is deleted, then a shard dies")
def deleted_directory(stage: Stage) -> None:
    """The next one is started from elsewhere."""
    gone = stage.folder / "gone"
    gone.mkdir()
    with _live(stage, cwd=gone) as running:
        gone.rmdir()
        stage.broke("the working directory is deleted")
        _kill(stage, running, "shard 0")


@drill("B17", "all processes are stopped for a while")
def all_stopped(stage: Stage) -> None:
    """No process is killed for having been stopped with all the others."""
    tables = f"[supervision]\nstall_after_s = {_SHORT_STALL_S}\n" if stage.short else ""
    with _live(stage, tables=tables) as running:
        before = {p["name"]: p["pid"] for p in running.status()["processes"]}
        family = [running.process.pid]
        family += [p.pid for p in psutil.Process(family[0]).children(recursive=True)]
        # Longer than what makes a single process count as stuck.
        stopped_s = _SHORT_STALL_S + 2 if stage.short else 30
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(stopped_s)
        for pid in family:
            os.kill(pid, signal.SIGCONT)
        stage.broke(f"all processes were stopped for {stopped_s} s, and go on")
        stage.await_("healed", "everything is live", running.live, within_s=30)
        assert {p["name"]: p["pid"] for p in running.status()["processes"]} == before


@drill("B18", "no shared memory to write to")
def no_shared_memory(stage: Stage) -> None:
    """It works without."""
    script = 'mount -t tmpfs none /dev/shm && mount -o remount,ro /dev/shm && exec "$@"'
    stage.broke("/dev/shm is read-only")
    with _live(stage, before=("unshare", "-m", "sh", "-c", script, "sh")):
        stage.note("healed", "everything is live")


@drill("B19", "stderr is closed, the terminal hangs up")
def hang_up(stage: Stage) -> None:
    """It collects without a log, drains at SIGHUP and leaves nothing behind."""
    with _live(stage, before=("sh", "-c", 'exec "$@" 2>&-', "sh")) as running:
        stage.broke("stderr is closed")
        _kill(stage, running, "shard 0")
        os.killpg(running.process.pid, signal.SIGHUP)
        stage.note("done", "SIGHUP to the whole group")
        assert running.process.wait(60) == 0
        assert running.leftovers() == []
        stage.note("healed", "it has drained and left nothing behind")
