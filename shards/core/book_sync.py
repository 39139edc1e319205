"""
Keep one book in step with its updates: sequence check, buffering, joining a snapshot.

Subscribe first and buffer; a snapshot with sequence S then covers every update up to S,
and the first one kept must be S + 1. One that is older than what was seen of the stream
cannot be joined and must be fetched again.

An update is old only if its block is: the chain counts a book's changes upwards, so a later
block whose sequence is not above ours means that the count began again.
"""

from typing import Final

from shards.protocol.errors import SequenceGap
from shards.protocol.events import Book, BookUpdate, Snapshot, Source
from shards.protocol.order_book import OrderBook

_BUFFERED = 4_096
"""Updates kept while a snapshot is on its way; beyond, the oldest go and it is asked anew."""
_UNTOLD: Final = 64
"""Blocks that a snapshot of unknown height may be ahead of the newest block heard."""


class BookSync:
    """One market's book and whether it may be trusted."""

    __slots__ = (
        "_at_most",
        "_buffer",
        "_observed_from",
        "_through",
        "_wanted",
        "book",
        "in_sync",
        "market_id",
    )

    def __init__(self, market_id: str, *, wanted: bool = True) -> None:
        self.market_id = market_id
        self.book = OrderBook(market_id)
        # A book that nobody wants is always in sync: nothing waits for it.
        self.in_sync = not wanted
        self._wanted = wanted
        self._buffer: list[Book] = []
        self._observed_from = 0
        self._through = 0
        """What changed up to this block is in the book; 0 where nobody told."""
        self._at_most = 0
        """Nothing that changed after this block is in it."""

    @property
    def is_wanted(self) -> bool:
        """Whether there is a book to keep at all."""
        return self._wanted

    @property
    def observed_from(self) -> int:
        """Height from which on the updates are known; 0 before the first."""
        return self._observed_from

    def lose(self, observed_from: int) -> None:
        """Stop trusting the book; updates are known again from this height on."""
        self.in_sync = not self._wanted
        self._buffer.clear()
        self._observed_from = observed_from

    def receive(
        self, update: BookUpdate, height: int, ts_event: int, ts_recv: int, source: Source
    ) -> Book | None:
        """
        Take one update: the change to publish, or None where there is nothing to say yet.

        Raises:
            SequenceGap: If updates are missing, or the sequence began again. The book is no
                longer in sync and this update is kept; ask for a snapshot.

        """
        sequence, bids, asks = update.sequence, update.bids, update.asks
        delta = Book(self.market_id, height, sequence, ts_event, ts_recv, source, False, bids, asks)
        book = self.book
        if not self.in_sync:
            self._keep(delta)
        elif 0 < height <= self._through:
            # Of a lost block that is replayed behind a newer snapshot.
            return None
        elif sequence == book.sequence + 1:
            book.change(sequence, bids, asks)
            self._through = self._at_most = height
            return delta
        elif sequence > book.sequence or height > self._at_most:
            self.lose(observed_from=height)
            self._keep(delta)
            raise SequenceGap(self.market_id, expected=book.sequence + 1, found=sequence)
        return None

    def _keep(self, delta: Book) -> None:
        """Keep a delta until the snapshot is there."""
        last = self._buffer[-1] if self._buffer else None
        if last is not None and delta.sequence <= last.sequence and delta.height > last.height:
            # The sequence began again: no snapshot joins what came before.
            self.lose(observed_from=delta.height)
        if len(self._buffer) < _BUFFERED:
            self._buffer.append(delta)
        else:
            self.lose(observed_from=delta.height + 1)

    def join(
        self, snapshot: Snapshot, ts_recv: int, source: Source = "chain-ws"
    ) -> list[Book] | None:
        """
        Load a snapshot and apply what was buffered after it; return what to publish.

        None if the snapshot is older than the stream as we saw it: fetch another.
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
        published = [self.whole(snapshot.height, 0, ts_recv, source)]
        self._buffer.clear()
        self.in_sync = True
        for delta in kept:
            self.book.apply(delta.sequence, delta.bids, delta.asks)
            self._through = self._at_most = delta.height
            published.append(delta)
        return published

    def whole(self, height: int, ts_event: int, ts_recv: int, source: Source = "chain-ws") -> Book:
        """Return the book as a snapshot event, best levels first."""
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
    """Say whether a delta is newer than a snapshot: by its block, where both name one."""
    if delta.height and snapshot.height:
        return delta.height > snapshot.height
    return delta.sequence > snapshot.sequence
