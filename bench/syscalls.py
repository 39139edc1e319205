"""
The system calls of each process: ``python -m bench.syscalls``.

Counts by ``strace -c`` over a flood: they say how well reads, wake-ups and sends are shared among
updates, and do not depend on how fast the machine is today. strace slows the process that it
follows, so the rates of this run are meaningless.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench import results, sides
from bench.rig import Feeder

FOLLOWED: Final = ("shard 0", "aggregator", "listener")
_ATTACH_S: Final = 10.0
_SELDOM: Final = 0.005
"""Calls per update that are too few to be shown."""


@contextlib.contextmanager
def followed(pid: int, report: Path) -> Iterator[None]:
    """
    Count the calls of a process, all its threads.

    Raises:
        PermissionError: If the system does not let one process follow another.

    """
    command = ["strace", "-f", "-c", "-o", str(report), "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as strace:
        try:
            _await_tracer(pid, strace)
            yield
        finally:
            strace.send_signal(signal.SIGINT)


def _await_tracer(pid: int, strace: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _ATTACH_S
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        if strace.poll() is not None:
            raise PermissionError("strace may not follow other processes here (ptrace)")
        assert time.monotonic() < deadline, "strace does not attach"
        time.sleep(0.05)


def calls(report: Path) -> dict[str, int]:
    """Read strace's table: how often each call was made."""
    found = {}
    for line in report.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
            found[fields[-1]] = int(fields[3])
    return found


def measure(blocks: int) -> dict[str, dict[str, float]]:
    """Return by process and call: how often per update."""
    found: dict[str, dict[str, float]] = {}
    with (
        tempfile.TemporaryDirectory() as name,
        Feeder(markets=20) as feeder,
        sides.ours(feeder) as side,
    ):
        updates = blocks * len(feeder.markets)
        for process in FOLLOWED:
            report = Path(name, "calls")
            with followed(side.pids()[process], report):
                side.flooded(blocks)
            made = {call: n / updates for call, n in calls(report).items()}
            found[process] = {call: round(n, 3) for call, n in made.items() if n > _SELDOM}
    return found


def main() -> int:
    """Count and print."""
    if shutil.which("strace") is None:
        print("no strace: calls of the kernel cannot be counted", file=sys.stderr)
        return 3
    try:
        found = measure(1_000)
    except PermissionError as error:
        print(error, file=sys.stderr)
        return 3
    rows = [
        (process, f"{sum(made.values()):.2f}", ", ".join(f"{c} {n}" for c, n in made.items()))
        for process, made in found.items()
    ]
    print(results.table(("process", "calls an update", "of which"), rows))
    results.save("syscalls", {"calls_per_update": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
