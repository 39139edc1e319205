"""
How well a process is: how late its event loop runs, how long its garbage collector pauses.

The lateness is the heartbeat's own: what makes it late makes frames late too.
"""

import contextlib
import gc
import time
from collections.abc import Iterator
from typing import Any

from shards.protocol.histograms import Vitals


class Watched:
    """The vitals of this process, and the worst lag since somebody last took it."""

    def __init__(self) -> None:
        self.vitals = Vitals()
        self._worst_s = 0.0
        self._began = 0

    def late(self, seconds: float) -> None:
        """Note by how much a heartbeat came late."""
        self.vitals.lag.record(int(seconds * 1e9))
        self._worst_s = max(self._worst_s, seconds)

    def take_worst_s(self) -> float:
        """Return the worst lag since this was last called."""
        worst_s, self._worst_s = self._worst_s, 0.0
        return worst_s

    @contextlib.contextmanager
    def gc_pauses(self) -> Iterator[None]:
        """Count the garbage collector's pauses for the length of the block."""
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
