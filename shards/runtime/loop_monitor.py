"""
Health of a process: lag of its event loop, pauses of its garbage collector.

The lag is the lateness of the heartbeat: whatever delays it delays frames as well.
"""

import contextlib
import gc
import time
from collections.abc import Iterator
from typing import Any

from shards.protocol.histograms import Vitals


class LoopMonitor:
    """The measurements of this process, and the worst lag since it was last taken."""

    def __init__(self) -> None:
        self.vitals = Vitals()
        self._worst_s = 0.0
        self._began = 0

    def late(self, seconds: float) -> None:
        """Record by how much a heartbeat was late."""
        self.vitals.lag.record(int(seconds * 1e9))
        self._worst_s = max(self._worst_s, seconds)

    def take_worst_s(self) -> float:
        """Return the worst lag since the last call."""
        worst_s, self._worst_s = self._worst_s, 0.0
        return worst_s

    @contextlib.contextmanager
    def gc_pauses(self) -> Iterator[None]:
        """Count garbage collector pauses while the block runs."""
        gc.callbacks.append(self._collected)
        try:
            yield
        finally:
            gc.callbacks.remove(self._collected)

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = time.perf_counter_ns()
        else:
            self.vitals.gc_pause.record(time.perf_counter_ns() - self._began)
