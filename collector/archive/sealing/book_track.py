"""
One market's book through one part: its keyframe, its changes in order, its final state. Pure.

Changes are applied by sequence. Where some are missing, the newest whole book before the
next change replaces them as another keyframe, and the missing sequences are counted.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, Literal, TypeAlias

import msgspec

from collector.archive.journal.segment_file import Entry
from collector.archive.storage.layout import Part
from collector.tables.rows import book_row
from collector.tables.schema import REPLAYED, Row
from shards.core.top_of_book import TopOfBook
from shards.protocol.events import Book, Level, Ticker
from shards.protocol.order_book import OrderBook
from shards.protocol.ranges import RangeList, count, minus, union

Reason = Literal["part", "joined", "resync"]
_decode: Final = msgspec.msgpack.Decoder(Book).decode
Told: TypeAlias = tuple[Book, Entry]
"""An event, and the entry that it was in."""
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

    After `walk` the attributes have the results.
    """

    def __init__(
        self, symbol: str, part: Part, carried: Carried | None, *, with_tops: bool = False
    ) -> None:
        self.symbol = symbol
        self.keyframes: list[Row] = []
        self.changes: list[Told] = []
        """In the order of their sequences."""
        self.tops: list[tuple[Ticker, Entry]] = []
        """Every change of the best bid or ask, worked out from the book, if asked for."""
        self._with_tops = with_tops
        self.replayed = 0
        self._part = part
        self._begin = -1 if carried is None else carried.sequence
        self._reached = self._begin
        """The highest sequence that the book has had; -1 before any."""
        self._skipped: RangeList = []
        self._book: OrderBook | None = None
        self._top = TopOfBook()
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
        deltas, whole = _by_sequence(entries)
        snapshots = sorted(whole)
        for run in _runs(sorted(s for s in deltas if s > self._begin)):
            self._catch_up(snapshots, whole, run[0] - 1)
            if not self._with_tops and self._follows(run[0]):
                self._change_all([deltas[sequence] for sequence in run])
                continue
            for sequence in run:
                self._catch_up(snapshots, whole, sequence - 1)
                self._change(*deltas[sequence])
        if snapshots:
            self._catch_up(snapshots, whole, snapshots[-1])
        if self._skipped:
            self._skipped = minus(self._skipped, [(s, s) for s in deltas])

    def _catch_up(self, snapshots: list[int], whole: dict[int, Told], through: int) -> None:
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
        if self._with_tops:
            self._top.load(book)
        self._reached = max(self._reached, event.sequence)
        self.keyframes.append((*book_row(event, self.symbol, entry), reason))

    def _follows(self, sequence: int) -> bool:
        """Say whether a change is the next one of the book as it stands."""
        return self._book is not None and sequence == self._book.sequence + 1

    def _change_all(self, changes: list[Told]) -> None:
        """Apply changes that follow the book, and each other: nearly always all of them."""
        assert self._book is not None
        events = [event for event, _ in changes]
        bids = chain.from_iterable(event.bids for event in events)
        self._book.change(events[-1].sequence, bids, chain.from_iterable(e.asks for e in events))
        self._reached = self._book.sequence
        self.changes += changes
        if not REPLAYED.isdisjoint({event.source for event in events}):
            self.replayed += sum(event.source in REPLAYED for event in events)

    def _change(self, event: Book, entry: Entry) -> None:
        self.changes.append((event, entry))
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
        if self._with_tops and self._top.follow(book, event.bids, event.asks):
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


def _by_sequence(entries: Iterable[Entry]) -> tuple[dict[int, Told], dict[int, Told]]:
    """Return the changes and the whole books, one for each sequence."""
    told = [(_decode(entry.event), entry) for entry in entries]
    whole = _each_once([one for one in told if one[0].is_snapshot])
    return _each_once([one for one in told if not one[0].is_snapshot]), whole


def _each_once(told: list[Told]) -> dict[int, Told]:
    found = {one[0].sequence: one for one in told}
    if len(found) == len(told):
        return found
    found.clear()
    for one in told:
        event = one[0]
        known = found.get(event.sequence)
        # A live copy has timestamps that a fetched one lacks.
        if known is None or (known[0].source in REPLAYED and event.source not in REPLAYED):
            found[event.sequence] = one
    return found


def _runs(sequences: list[int]) -> Iterator[list[int]]:
    """Split sorted sequences where some are missing."""
    if sequences and sequences[-1] - sequences[0] + 1 == len(sequences):
        yield sequences
        return
    first = 0
    for i in range(1, len(sequences) + 1):
        if i == len(sequences) or sequences[i] != sequences[i - 1] + 1:
            yield sequences[first:i]
            first = i


def _ticker(event: Book, top: TopOfBook) -> Ticker:
    where = (event.market_id, event.height, event.sequence, event.ts_event, event.ts_recv)
    return Ticker(*where, event.source, *top.best)
