"""Do the work on books that was put off (late_changes.py) when the source pauses."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from shards.core.pipeline import Pipeline

_PAUSE_S: Final = 0.003
"""The source pauses if no payload comes for so long."""
_AT_ONCE: Final = 16
"""Changes that are put into their books in one step, about 0.1 ms."""


class Settling:
    """Waits for a pause, then works in steps: what the source sends meanwhile goes first."""

    def __init__(self, pipeline: Pipeline[Any], push_new: Callable[[], None]) -> None:
        """``push_new`` pushes the keyframes that were made."""
        self._pipeline = pipeline
        self._push_new = push_new
        self.is_running = False
        self._payloads = 0
        """Payloads so far when the wait began."""

    def begin(self) -> None:
        """Wait for a pause, unless it does already."""
        if not self.is_running:
            self.is_running = True
            self._wait()

    def _wait(self) -> None:
        self._payloads = self._pipeline.payloads
        asyncio.get_running_loop().call_later(_PAUSE_S, self._step)

    def _step(self) -> None:
        pipeline = self._pipeline
        if pipeline.payloads != self._payloads:
            self._wait()
            return
        pipeline.settle(_AT_ONCE)
        if pipeline.has_late:
            asyncio.get_running_loop().call_soon(self._step)
        else:
            self.is_running = False
            self._push_new()
