"""
One market's book through one part: its keyframe, its changes in order, how it ends. Pure.

Changes are applied by sequence. Where some are missing, the newest whole book before the
next change takes their place, as a keyframe of its own, and the sequences are counted.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

from collector.archive.journal import Entry
from collector.archive.layout import Part
from collector.archive.ranges import Ranges, count, minus, union
from collector.tables.rows import REPLAYED, Row, book_row
from shards.core.top_of_book import Top
from shards.protocol.events import Book, Level, Ticker
from shards.protocol.order_book import OrderBook

Reason = Literal["part", "joined", "resync"]
_decode: Final = msgspec.msgpack.Decoder(Book).decode
_NO_FRAME: Final = Entry("", 0, 0, b"")


class Carried(msgspec.Struct):
    """A whole book at the end of a part: the next part's keyframe."""

    market_id: str
    symbol: str
    height: int
    sequence: int
    bids: list[Level]
    asks: list[Level]


class Track:
    """
    One market's book through one part.

    After `walk` the attributes say what was seen; `rows` are the changes, in order.
    """

    def __init__(self, symbol: str, part: Part, carried: Carried | None) -> None:
        self.symbol = symbol
        self.keyframes: list[Row] = []
        self.rows: list[Row] = []
        self.tops: list[tuple[Ticker, Entry]] = []
        """Every change of the best bid or ask, worked out from the book."""
        self.replayed = 0
        self._part = part
        self._begin = -1 if carried is None else carried.sequence
        self._reached = self._begin
        """The highest sequence that the book has had; -1 before any."""
        self._skipped: Ranges = []
        self._book: OrderBook | None = None
        self._top = Top()
        if carried is not None:
            self._load_carried(carried)

    def _load_carried(self, carried: Carried) -> None:
        event = Book(
            carried.market_id,
            carried.height,
            carried.sequence,
            0,
            0,
            "query",
            True,
            carried.bids,
            carried.asks,
        )
        self._load(event, _NO_FRAME, "part")

    def walk(self, entries: Iterable[Entry]) -> None:
        """Take the part's entries of the book's topic, in any order."""
        deltas: dict[int, tuple[Book, Entry]] = {}
        whole: dict[int, tuple[Book, Entry]] = {}
        for event, entry in _events(entries):
            found = whole if event.is_snapshot else deltas
            known = found.get(event.sequence)
            # What came live says more of the way it came than what was fetched.
            if known is None or (known[0].source in REPLAYED and event.source not in REPLAYED):
                found[event.sequence] = (event, entry)
        snapshots = sorted(whole)
        for sequence in sorted(deltas):
            if sequence <= self._begin:
                continue
            event, entry = deltas[sequence]
            self._catch_up(snapshots, whole, sequence - 1)
            self._change(event, entry)
        if snapshots:
            self._catch_up(snapshots, whole, snapshots[-1])
        self._skipped = minus(self._skipped, [(s, s) for s in deltas])

    def _catch_up(
        self, snapshots: list[int], whole: dict[int, tuple[Book, Entry]], through: int
    ) -> None:
        """Load the newest whole book up to a sequence, if the book is not there by itself."""
        book = self._book
        if book is not None and book.sequence >= through:
            return
        at = max((s for s in snapshots if s <= through), default=-1)
        if at < max(0, self._reached) or (book is not None and at == book.sequence):
            return
        if 0 <= self._reached < at:
            self._skipped.append((self._reached + 1, at))
        event, entry = whole[at]
        self._load(event, entry, "joined" if self._reached < 0 else "resync")

    def _load(self, event: Book, entry: Entry, reason: Reason) -> None:
        book = self._book = OrderBook(event.market_id)
        book.load(event.sequence, event.bids, event.asks)
        self._top.load(book)
        self._reached = max(self._reached, event.sequence)
        self.keyframes.append((*book_row(event, self.symbol, entry), reason))

    def _change(self, event: Book, entry: Entry) -> None:
        self.rows.append(book_row(event, self.symbol, entry))
        self.replayed += event.source in REPLAYED
        if 0 <= self._reached < event.sequence - 1:
            self._skipped.append((self._reached + 1, event.sequence - 1))
        self._reached = max(self._reached, event.sequence)
        book = self._book
        if book is None or event.sequence <= book.sequence:
            return
        if event.sequence != book.sequence + 1:
            self._book = None
            return
        book.change(event.sequence, event.bids, event.asks)
        if self._top.follow(book, event.bids, event.asks):
            self.tops.append((_ticker(event, self._top), entry))

    @property
    def sequences_missing(self) -> int:
        """Number of changes that are missing."""
        return count(union(self._skipped))

    def end(self, market_id: str) -> Carried | None:
        """Return the book at the end of the part; None if it is unknown."""
        if self._book is None:
            return None
        bids, asks = self._book.levels()
        last = self._part.last
        return Carried(market_id, self.symbol, last, self._book.sequence, bids, asks)


def _events(entries: Iterable[Entry]) -> Iterator[tuple[Book, Entry]]:
    for entry in entries:
        yield _decode(entry.event), entry


def _ticker(event: Book, top: Top) -> Ticker:
    where = (event.market_id, event.height, event.sequence, event.ts_event, event.ts_recv)
    return Ticker(*where, event.source, *top.best)
