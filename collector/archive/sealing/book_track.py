"""
One market's book through one part: its keyframe, its changes in order, its final state. Pure.

Changes are applied by sequence, and handed out some hundred at once: so many stay in the processor's
cache while they become rows. Where some are missing, the newest whole book before the next change
replaces them as another keyframe, and the missing sequences are counted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, Literal, TypeAlias

import msgspec

from collector.archive.journal.segment_file import Entry
from collector.archive.storage.layout import Part
from collector.tables.rows import book_row
from collector.tables.schema import Row
from shards.adapters import registry
from shards.core.top_of_book import TopOfBook
from shards.protocol.events import Book, Level, Ticker
from shards.protocol.order_book import OrderBook
from shards.protocol.ranges import RangeList, count, minus, union

Reason = Literal["part", "joined", "resync"]
_AT_ONCE: Final = 512
"""Changes: of seven levels they take a megabyte."""
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


class _Head(msgspec.Struct, array_like=True, gc=False):
    """How a book's event begins; the levels are not read."""

    market_id: str
    height: int
    sequence: int
    ts_event: int
    ts_recv: int
    source: str
    is_snapshot: bool


_decode_head: Final = msgspec.msgpack.Decoder(_Head).decode


def _drop(_: Sequence[Told]) -> None:
    """Apply changes; only the book after the last one is needed."""


class Track:
    """
    One market's book through one part.

    `walk` hands the changes to ``put``, in the order of their sequences. The attributes have the
    other results.
    """

    def __init__(
        self,
        symbol: str,
        part: Part,
        carried: Carried | None,
        *,
        put: Callable[[Sequence[Told]], None] = _drop,
        with_tops: bool = False,
    ) -> None:
        self.symbol = symbol
        self.keyframes: list[Row] = []
        self._put = put
        self.market_id = ""
        """The changes' own; empty without any."""
        self.changes = 0
        self.first_sequence: int | None = None
        self.last_sequence: int | None = None
        self.tops: list[tuple[Ticker, Entry]] = []
        """Every change of the best bid or ask, worked out from the book, if asked for."""
        self._with_tops = with_tops
        self.replayed = 0
        self._part = part
        self._begin = -1 if carried is None else carried.sequence
        self._reached = self._begin
        """The highest sequence that the book has had; -1 before any."""
        self._skipped: RangeList = []
        self._replays = registry.replays()
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
            for start in range(0, len(run), _AT_ONCE):
                some = [deltas[sequence] for sequence in run[start : start + _AT_ONCE]]
                self._take([(_decode(entry.event), entry) for entry in some], snapshots, whole)
        if snapshots:
            self._catch_up(snapshots, whole, snapshots[-1])
        if self._skipped:
            self._skipped = minus(self._skipped, [(s, s) for s in deltas])

    def _take(self, changes: list[Told], snapshots: list[int], whole: dict[int, Entry]) -> None:
        """Take the next changes, which follow each other."""
        first, last = changes[0][0], changes[-1][0]
        if not self._with_tops and self._follows(first.sequence):
            self._change_all([event for event, _ in changes])
        else:
            for event, entry in changes:
                self._catch_up(snapshots, whole, event.sequence - 1)
                self._change(event, entry)
        self.market_id = self.market_id or first.market_id
        self.changes += len(changes)
        if self.first_sequence is None:
            self.first_sequence = first.sequence
        self.last_sequence = last.sequence
        sources = [event.source for event, _ in changes]
        if not self._replays.isdisjoint(sources):
            self.replayed += sum(source in self._replays for source in sources)
        self._put(changes)

    def _catch_up(self, snapshots: list[int], whole: dict[int, Entry], through: int) -> None:
        """Load the newest whole book up to a sequence, if the book is not there by itself."""
        book = self._book
        if book is not None and book.sequence >= through:
            return
        at = max((s for s in snapshots if s <= through), default=-1)
        if at < max(0, self._reached) or (book is not None and at == book.sequence):
            return
        if 0 <= self._reached < at:
            self._skipped.append((self._reached + 1, at))
        entry = whole[at]
        self._load(_decode(entry.event), entry, "joined" if self._reached < 0 else "resync")

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

    def _change_all(self, events: list[Book]) -> None:
        """Apply changes that follow the book, and each other: nearly always all of them."""
        assert self._book is not None
        bids = chain.from_iterable(event.bids for event in events)
        self._book.change(events[-1].sequence, bids, chain.from_iterable(e.asks for e in events))
        self._reached = self._book.sequence

    def _change(self, event: Book, entry: Entry) -> None:
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


def _by_sequence(entries: Iterable[Entry]) -> tuple[dict[int, Entry], dict[int, Entry]]:
    """Return the changes and the whole books, one for each sequence."""
    told = [(_decode_head(entry.event), entry) for entry in entries]
    whole = _each_once([one for one in told if one[0].is_snapshot])
    return _each_once([one for one in told if not one[0].is_snapshot]), whole


def _each_once(told: list[tuple[_Head, Entry]]) -> dict[int, Entry]:
    found = {head.sequence: entry for head, entry in told}
    if len(found) == len(told):
        return found
    best: dict[int, tuple[_Head, Entry]] = {}
    replays = registry.replays()
    for one in told:
        head = one[0]
        known = best.get(head.sequence)
        # A live copy has timestamps that a fetched one lacks.
        if known is None or (known[0].source in replays and head.source not in replays):
            best[head.sequence] = one
    return {sequence: entry for sequence, (_, entry) in best.items()}


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
