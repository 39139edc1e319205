"""
Epochs: numbers that only grow, for processes that are restarted.

An epoch is ``max(clock, last + 1)``, and the last one is kept in the state folder. Even if the
clock is set back, no successor has a lower epoch than its predecessor.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from shards.protocol.errors import UNREADABLE
from shards.runtime.saved import SavedFile

log = logging.getLogger(__name__)

_encode: Final = msgspec.msgpack.Encoder().encode


class Epochs:
    """Issues epochs, each greater than all before it, in this run and former ones."""

    def __init__(self, file: SavedFile, clock: Callable[[], int] = time.time_ns) -> None:
        """``clock`` is in nanoseconds since 1970."""
        self._file = file
        self._clock = clock
        self.last = 0
        payload = file.load()
        if payload is not None:
            try:
                self.last = msgspec.msgpack.decode(payload, type=int)
            except UNREADABLE as error:
                file.set_aside(str(error))

    def next(self) -> int:
        """Return an epoch for a process that is about to start."""
        self.last = max(self._clock(), self.last + 1)
        try:
            self._file.save(_encode(self.last))
        except OSError as error:
            # Readers accept any epoch that they have not seen, so an epoch that does not grow does
            # no harm.
            log.warning("cannot remember the epoch %d: %s", self.last, error)
        return self.last
