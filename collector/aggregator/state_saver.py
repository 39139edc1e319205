"""
Save the ledger and the journal, and load them again.

Both are written once a second if they have changed. The data path never waits for a disk, and no
process ends because of one: a ledger that cannot be saved causes a warning, a metric, and a collector
that is not ready until it can be saved again.
"""

import asyncio
import contextlib
import fcntl
import logging
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.aggregator.state.saved import Saved
from collector.aggregator.telemetry.journal import Entry, Journal
from shards.protocol.errors import UNREADABLE
from shards.runtime.saved import SavedFile

log = logging.getLogger(__name__)

_AGAIN_S: Final = 5.0
"""A ledger is saved again after this time though nothing of it has changed: then its age shows that
it can be saved."""
LOCK: Final = "aggregator.lock"
"""In the state folder, locked by the aggregator that saves there."""
_encode: Final = msgspec.msgpack.Encoder().encode
_journal: Final = msgspec.msgpack.Decoder(list[Entry])


class StateSaver:
    """Saves an aggregator's state in its state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error = ""
        """Why the ledger cannot be saved; empty if it can."""
        self._ledger = SavedFile(folder / "ledger")
        self._journal = SavedFile(folder / "journal")
        self._entered = 0
        """Id of the newest journal entry that was saved."""
        self._saves = 0
        self._version: object = None
        """Of the ledger that was saved; None if that is unknown."""
        self.saved_at = time.monotonic()
        """When it was last saved, monotonic."""
        self._lock: Any = None

    def hold(self) -> None:
        """Lock the folder, so that the next collector knows that it is in use."""
        with contextlib.suppress(OSError):
            self._lock = (self.folder / LOCK).open("a")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    # ---- taking up ------------------------------------------------------------------

    def load(self) -> Saved:
        """Load the ledger; an empty one if there is none, or it is unreadable."""
        return _load(self._ledger, msgspec.msgpack.Decoder(Saved)) or Saved()

    def load_journal(self) -> list[Entry]:
        """Load the journal; empty if there is none, or it is unreadable."""
        entries = _load(self._journal, _journal) or []
        self._entered = entries[-1].id if entries else 0
        return entries

    # ---- saving ---------------------------------------------------------------------

    def save_now(self, ledger: Saved) -> None:
        """Save the ledger at once, so that it survives this process."""
        self._saves += 1
        self._version = None
        try:
            self._ledger.save(_encode(ledger))
        except OSError as error:
            self._failed(error)
        else:
            self._succeeded()

    def is_due(self, version: object) -> bool:
        """Whether a ledger of this version is to be saved: it has changed, or the last one is old."""
        is_old = time.monotonic() - self.saved_at >= _AGAIN_S
        return version != self._version or is_old or bool(self.error)

    async def save(self, ledger: Saved, version: object) -> None:
        """Save the ledger, synced to the disk."""
        self._saves += 1
        number, payload = self._saves, _encode(ledger)
        try:
            part = await asyncio.to_thread(self._ledger.write_through, payload)
            if number == self._saves:
                self._ledger.adopt(part)
                self._version = version
            # Otherwise a newer one was saved in the meantime.
        except OSError as error:
            self._failed(error)
        else:
            self._succeeded()

    async def save_journal(self, journal: Journal) -> None:
        """Save the journal if it has new entries, synced to the disk."""
        if self._entered == journal.last:
            return
        try:
            entered, entries = journal.last, _encode(list(journal))
            self._journal.adopt(await asyncio.to_thread(self._journal.write_through, entries))
            self._entered = entered
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        sentence = f"cannot save the ledger in {self.folder}: {error.strerror or error}"
        if not self.error:
            log.warning("%s; collecting goes on, and it is tried every second", sentence)
        self.error = sentence

    def _succeeded(self) -> None:
        if self.error:
            log.info("the ledger is saved again, after %.0f s", time.monotonic() - self.saved_at)
        self.error = ""
        self.saved_at = time.monotonic()


def _load(file: SavedFile, decoder: "msgspec.msgpack.Decoder[Any]") -> Any:
    """Read and decode one file; None if there is none, or it is unreadable."""
    try:
        payload = file.load()
        return None if payload is None else decoder.decode(payload)
    except UNREADABLE as error:
        file.set_aside(str(error))
    except OSError as error:
        log.warning("%s cannot be read: %s; starting a new one", file.path, error.strerror or error)
    return None
