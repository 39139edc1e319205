"""The resource usage of processes, as the kernel counts it: CPU time, RSS, PSS."""

import os
from pathlib import Path
from typing import Final

import msgspec
import psutil

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MIB: Final = 1 << 20


class Memory(msgspec.Struct, frozen=True):
    """One process's memory in MiB."""

    rss: float
    pss: float
    """Shared pages count in part, divided by the processes that map them: PSS falls if more do."""
    uss: float
    """The memory that no other process shares."""


def cpu_s(pid: int) -> float:
    """Return user and system time of a process so far, without its children's; 0 once it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    # The name may contain spaces and brackets; the fields after it do not.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> Memory:
    """Return a process's memory."""
    sizes = dict.fromkeys(("Rss:", "Pss:", "Private_Clean:", "Private_Dirty:"), 0.0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        if name in sizes:
            sizes[name] = int(size) * 1024 / _MIB
    rss, pss, clean, dirty = sizes.values()
    return Memory(rss, pss, clean + dirty)


def family(pid: int) -> dict[str, int]:
    """Return a collector's processes: ``coordinator``, ``aggregator``, ``shard 0``, …"""
    found = {"coordinator": pid}
    for child in psutil.Process(pid).children(recursive=True):
        try:
            title = " ".join(child.cmdline()).strip()
        except psutil.Error:
            continue
        if title:
            name = title.partition("collector: ")[2] or "resource tracker"
            found[name] = child.pid
    return found


class CpuClock:
    """CPU time of some processes since it was made or last read."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.pids = pids
        self._start = {name: cpu_s(pid) for name, pid in pids.items()}

    def read(self) -> dict[str, float]:
        """Return the seconds that each has used since then."""
        return {name: cpu_s(pid) - self._start[name] for name, pid in self.pids.items()}
