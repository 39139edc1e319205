"""
Detects that the wall clock was set. It may jump at any moment, by any amount.

Durations are measured with `time.monotonic`. The data path has to compare payload times with the
wall clock; `SetClock` tells when such comparisons have just become meaningless.
"""

import time
from typing import Final

_STEP_NS: Final = 100_000_000
"""More than a clock that is adjusted, not set, can drift between two checks."""


class SetClock:
    """Detects that the wall clock was set; check it a few times per second."""

    def __init__(self) -> None:
        self._offset = _offset()

    def was_set(self) -> bool:
        """Return whether the clock was set since the last check."""
        before, self._offset = self._offset, _offset()
        return abs(self._offset - before) > _STEP_NS


def _offset() -> int:
    return time.time_ns() - time.monotonic_ns()
