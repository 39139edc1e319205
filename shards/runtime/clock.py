"""
The wall clock says when, never how long: it may be set at any moment, by an hour either way.

Durations are measured by `time.monotonic`. Where instants of the data path are compared with
the present all the same, because each payload carries one, `SetClock` tells when that has just
become meaningless.
"""

import time
from typing import Final

_STEP_NS: Final = 100_000_000
"""Further than a clock that is merely adjusted runs away between two looks."""


class SetClock:
    """Notices that somebody set the wall clock; look a few times a second."""

    def __init__(self) -> None:
        self._offset = _offset()

    def was_set(self) -> bool:
        """Say whether the clock was set since the last look."""
        before, self._offset = self._offset, _offset()
        return abs(self._offset - before) > _STEP_NS


def _offset() -> int:
    return time.time_ns() - time.monotonic_ns()
