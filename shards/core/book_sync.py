"""
Keep one book in sync with its updates: check sequences, buffer updates, join a snapshot.

Subscribe first and buffer. A snapshot with sequence S covers every update up to S, and the
first buffered update kept must be S + 1. A snapshot older than the buffered updates cannot be
joined; fetch another.

The changes of a book that was published before are *passed on*: published at once, although the
whole book is not known. Readers have it, or wait for the snapshot. So no change depends on a server
that still has an old book, and the ledger never counts a block whose changes are not published.

An update is old only if its block is: the chain counts a book's changes upwards, so a later
block whose sequence is not above ours means that the sequence restarted.
"""

from typing import Final

from shards.core.late_changes import NEVER, LateChanges
from shards.protocol.errors import SequenceGap
from shards.protocol.events import Book, BookUpdate, Snapshot, Source
from shards.protocol.order_book import OrderBook

_BUFFERED = 4_096
"""Updates buffered while a snapshot is fetched; beyond, drop the oldest and request another."""
_RECENT: Final = 64
"""Passed-on updates that are kept at least, because a snapshot may be older than they are."""
_UNTOLD: Final = 64
"""How many blocks a snapshot of unknown height may be ahead of the newest block received."""


class BookSync:
    """One market's book and whether it may be trusted."""

    __slots__ = (
        "_at_most",
        "_buffer",
        "_late",
        "_looked",
        "_observed_from",
        "_through",
        "_wanted",
        "book",
        "changed_at",
        "in_sync",
        "is_owed",
        "market_id",
        "passes_on",
    )

    def __init__(self, market_id: str, *, wanted: bool = True, late: LateChanges = NEVER) -> None:
        """``late`` takes changes that may be put into the book later."""
        self.market_id = market_id
        self._late = late
        self.is_owed = False
        """Whether `defer` has to be called with the change that `receive` returned."""
        self.book = OrderBook(market_id)
        # A book that is not collected is always in sync: nothing waits for it.
        self.in_sync = not wanted
        self._wanted = wanted
        self._buffer: list[Book] = []
        self._observed_from = 0
        self.passes_on = False
        """Whether changes are published although the whole book is not known."""
        self.changed_at = 0
        """Block time of the newest change, for a source that does not tell heights. Snapshots carry
        it: only by time can readers tell a restarted sequence from an old snapshot."""
        self._through = 0
        """Changes up to this block are in the book; 0 if the height is unknown."""
        self._at_most = 0
        """Changes after this block are not in the book."""
        self._looked = (-1, 0)
        """Sequence of the newest snapshot of unknown height that may be ahead, and the newest block
        when it first came."""

    @property
    def is_wanted(self) -> bool:
        """Whether this market's book is collected at all."""
        return self._wanted

    @property
    def observed_from(self) -> int:
        """Height from which updates are known; 0 before the first one."""
        return self._observed_from

    def lose(self, observed_from: int, *, passes_on: bool = False) -> None:
        """
        Mark the book out of sync; updates are known again from this height on.

        ``passes_on``: publish them at once, because the book was published up to this height.
        """
        self.in_sync = not self._wanted
        self.passes_on = passes_on and self._wanted
        self._buffer.clear()
        self._observed_from = observed_from
        self._looked = (-1, 0)

    def is_ahead(self, snapshot: Snapshot, height: int, *, is_complete: bool) -> bool:
        """
        Return whether a snapshot includes changes that are to be passed on.

        ``height`` is the newest block whose changes were received, and ``is_complete`` says whether
        nothing up to the head is outstanding.
        """
        if not self.passes_on:
            return False
        if snapshot.height:
            return snapshot.height > height
        if self._buffer:
            return snapshot.sequence > self._buffer[-1].sequence
        # Perhaps nobody changes this book: then a later block brings no change either.
        sequence, since = self._looked
        if sequence != snapshot.sequence:
            self._looked = snapshot.sequence, height
            return True
        return height <= since or not is_complete

    def includes(self, height: int) -> bool:
        """Return whether a block's changes are in what was published."""
        return 0 < height <= self._through

    @property
    def waits_from(self) -> int:
        """The block of the first change that waits for a snapshot; 0 if none does."""
        return self._buffer[0].height if self._buffer and not self.passes_on else 0

    def rewind(self, height: int) -> None:
        """What was published of later blocks did not arrive."""
        self._through = min(self._through, height)

    def restart(self, ts_event: int) -> None:
        """Take note that the sequence restarted, at a later time than that of any change before."""
        self.lose(observed_from=0)
        self.changed_at = ts_event
        self.book.load(0, [], [])

    def receive(
        self, update: BookUpdate, height: int, ts_event: int, ts_recv: int, source: Source
    ) -> Book | None:
        """
        Take one update; return the change to publish, or None if there is nothing to publish yet.

        Raises:
            SequenceGap: If updates are missing, or the sequence restarted. The book is now
                out of sync and this update is buffered; request a snapshot.

        """
        sequence, bids, asks = update.sequence, update.bids, update.asks
        delta = Book(self.market_id, height, sequence, ts_event, ts_recv, source, False, bids, asks)
        book = self.book
        if not self.in_sync:
            if self.passes_on:
                if self.includes(height):
                    return None
                self._buffer.append(delta)
                self._trim()
                return delta
            self._keep(delta)
        elif 0 < height <= self._through:
            # From a lost block, replayed after a newer snapshot was loaded.
            return None
        elif sequence == book.sequence + 1:
            if self._late.is_open:
                self.is_owed = True
            else:
                book.change(sequence, bids, asks)
            self._through = self._at_most = height
            return delta
        elif sequence > book.sequence or height > self._at_most:
            self.lose(observed_from=height)
            self._keep(delta)
            raise SequenceGap(self.market_id, expected=book.sequence + 1, found=sequence)
        return None

    def defer(self, event: bytes) -> None:
        """Take the encoded form of the change that `receive` returned: it is published."""
        self.is_owed = False
        self._late.defer(self.book, event)

    def _keep(self, delta: Book) -> None:
        """Buffer a delta until the snapshot arrives."""
        last = self._buffer[-1] if self._buffer else None
        if last is not None and delta.sequence <= last.sequence and delta.height > last.height:
            # The sequence restarted: no snapshot can join the earlier updates.
            self.lose(observed_from=delta.height)
        if len(self._buffer) < _BUFFERED:
            self._buffer.append(delta)
        else:
            self.lose(observed_from=delta.height + 1)

    def _trim(self) -> None:
        """Forget passed-on updates that no snapshot will need."""
        if len(self._buffer) >= 2 * _RECENT:
            del self._buffer[:-_RECENT]
            self._observed_from = self._buffer[0].height

    def join(
        self, snapshot: Snapshot, ts_recv: int, source: Source = "chain-ws"
    ) -> list[Book] | None:
        """
        Load a snapshot and apply the updates buffered after it; return what to publish.

        None if the snapshot is older than the buffered updates: fetch another.
        """
        kept = [delta for delta in self._buffer if _follows(delta, snapshot)]
        due = snapshot.sequence
        for delta in kept:
            due += 1
            if delta.sequence != due:
                return None
        if snapshot.height and snapshot.height + 1 < self._observed_from:
            return None
        heard = self._buffer[-1].height if self._buffer else self._observed_from
        self._through = snapshot.height
        self._at_most = snapshot.height or heard + _UNTOLD
        self.book.load(snapshot.sequence, snapshot.bids, snapshot.asks)
        published = [self.whole(snapshot.height, self.changed_at, ts_recv, source)]
        self._buffer.clear()
        self.in_sync = True
        for delta in kept:
            self.book.apply(delta.sequence, delta.bids, delta.asks)
            self._through = self._at_most = delta.height
            published.append(delta)
        if self.passes_on:
            # The changes after the snapshot are published: the whole book has to include them.
            self.passes_on = False
            newest = published[-1]
            published = [self.whole(newest.height, self.changed_at, ts_recv, source)]
        return published

    def whole(self, height: int, ts_event: int, ts_recv: int, source: Source = "chain-ws") -> Book:
        """Return the book as a snapshot event, its levels sorted best first."""
        bids, asks = self.book.levels()
        return Book(
            self.market_id,
            height,
            self.book.sequence,
            ts_event,
            ts_recv,
            source,
            True,
            bids,
            asks,
        )


def _follows(delta: Book, snapshot: Snapshot) -> bool:
    """Return whether a delta is newer than a snapshot: by height, if both have one."""
    if delta.height and snapshot.height:
        return delta.height > snapshot.height
    return delta.sequence > snapshot.sequence
