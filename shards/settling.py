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
        self._next: asyncio.Handle | None = None
        """What comes next, if anything: the end of the wait, or another step."""
        self._payloads = 0
        """Payloads so far when the wait began."""

    @property
    def is_running(self) -> bool:
        """Whether it waits or works."""
        return self._next is not None

    def begin(self) -> None:
        """Wait for a pause, unless it does already."""
        if self._next is None:
            self._wait()

    def end(self) -> None:
        """Neither wait nor work any more: what is pushed now would find its socket closed."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _wait(self) -> None:
        self._payloads = self._pipeline.payloads
        self._next = asyncio.get_running_loop().call_later(_PAUSE_S, self._step)

    def _step(self) -> None:
        # An error in this step must not be the end of all later ones.
        self._next = None
        pipeline = self._pipeline
        if pipeline.payloads != self._payloads:
            self._wait()
            return
        pipeline.settle(_AT_ONCE)
        if pipeline.has_late:
            self._next = asyncio.get_running_loop().call_soon(self._step)
        else:
            self._push_new()
