"""
Resource usage of every process of the collector, read once a second by the coordinator.

Not by the aggregator: reading ten processes takes milliseconds, and frames would wait. For PSS
(memory, with shared pages divided among their users) the kernel walks the page tables, which takes a
millisecond for a hundred megabytes. So it is read for one process per pass, in turn, and as rarely
as keeps it within `_PSS_SHARE` of a core.
"""

import time
from collections.abc import Mapping
from typing import Final

import psutil

from collector.aggregator.telemetry.process_table import Use
from shards.runtime import realtime

_EVERY_S: Final = 0.9
_PSS_SHARE: Final = 1 / 2_000


class Usage:
    """The use of all processes, by name; ``now`` is monotonic seconds."""

    def __init__(self) -> None:
        self._processes: dict[str, psutil.Process] = {}
        self._uses: dict[str, Use] = {}
        self._read_at = -1.0
        self._turn = 0
        self._pss_due_at = -1.0

    def read(self, pids: Mapping[str, int], now: float) -> Mapping[str, Use]:
        """Return the usage, read again if the last pass is a second old."""
        if self._read_at < 0 or now - self._read_at >= _EVERY_S:
            self._read_at = now
            self._processes = {n: p for n, p in self._processes.items() if n in pids}
            self._uses = {name: self._read(name, pid) for name, pid in pids.items() if pid}
            if now >= self._pss_due_at:
                began = time.thread_time()
                self._read_pss()
                self._pss_due_at = now + (time.thread_time() - began) / _PSS_SHARE
        return self._uses

    def _read(self, name: str, pid: int) -> Use:
        process = self._processes.get(name)
        try:
            if process is None or process.pid != pid:
                process = self._processes[name] = psutil.Process(pid)
            with process.oneshot():
                times, switches = process.cpu_times(), process.num_ctx_switches()
                before = self._uses.get(name)
                return Use(
                    process.cpu_percent(),
                    times.user,
                    times.system,
                    round(process.memory_info().rss / 2**20, 1),
                    before.pss_mb if before is not None else 0.0,
                    process.num_threads(),
                    process.num_fds(),
                    switches.voluntary,
                    switches.involuntary,
                    realtime.of(pid),
                )
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            # It has just ended; its successor has another id.
            self._processes.pop(name, None)
            return Use()

    def _read_pss(self) -> None:
        """Read the PSS of the next process in turn."""
        names = list(self._processes)
        if not names:
            return
        self._turn += 1
        name = names[self._turn % len(names)]
        try:
            pss = getattr(self._processes[name].memory_full_info(), "pss", 0)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return
        if name in self._uses:
            self._uses[name].pss_mb = round(pss / 2**20, 1)
