"""
One market's book through one part: its keyframe, its changes in order, its final state. Pure.

Changes are applied by sequence, and handed out by the thousand: columns cost less for many rows.
Where some are missing, the newest whole book before the next change replaces them as another keyframe,
and the missing sequences are counted.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal

import msgspec

from collector.archive.journal.packing import array_of
from collector.archive.journal.segment_file import Entry
from collector.archive.storage.layout import Part
from collector.tables.book_changes import Changes, decoded
from collector.tables.rows import Arrival, book_row
from collector.tables.schema import Row
from shards.adapters import registry
from shards.core.top_of_book import TopOfBook
from shards.protocol.events import Book, Level, Ticker
from shards.protocol.order_book import OrderBook
from shards.protocol.ranges import RangeList, count, minus, union, within

Reason = Literal["part", "joined", "resync"]
_AT_ONCE: Final = 4_096
"""Changes: of seven levels they take five megabytes."""
_decode: Final = msgspec.msgpack.Decoder(Book).decode
_NO_FRAME: Final = Entry("", 0, 0, b"")


class Carried(msgspec.Struct):
    """A whole book at the end of a part: the next part's keyframe."""

    market_id: str
    symbol: str
    height: int
    """The part's last; the one before the next that is missing, if some are missing at its end."""
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


_decode_heads: Final = msgspec.msgpack.Decoder(list[_Head]).decode


def _drop(_: Changes) -> None:
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
        put: Callable[[Changes], None] = _drop,
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
        self.tops: list[tuple[Ticker, Arrival]] = []
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
        self._at = -1
        """The height up to which the book is known."""
        self._top = TopOfBook()
        if carried is not None:
            self._load_carried(carried)
        self._is_older = carried is not None and carried.height < part.first - 1
        """The book is from before blocks of an earlier part that were missing when that was sealed."""

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
        told = list(entries)
        if not told:
            return
        every = decoded(array_of([entry.event for entry in told]), told)
        deltas, places = _by_sequence(every)
        whole = {sequence: told[place] for sequence, place in places.items()}
        snapshots = sorted(whole)
        sequences = sorted(deltas)
        for run in _runs(sequences[bisect_right(sequences, self._begin) :]):
            self._catch_up(snapshots, whole, run[0] - 1)
            for start in range(0, len(run), _AT_ONCE):
                some = list(map(deltas.__getitem__, run[start : start + _AT_ONCE]))
                self._take(every.at(some), snapshots, whole)
        if snapshots:
            self._catch_up(snapshots, whole, snapshots[-1])
            self._confirm(whole)
        if self._skipped:
            self._skipped = minus(self._skipped, [(s, s) for s in deltas])

    def _take(self, changes: Changes, snapshots: list[int], whole: dict[int, Entry]) -> None:
        """Take the next changes, which follow each other."""
        fields = changes.fields
        first, last = fields.sequences[0], fields.sequences[-1]
        if not self._with_tops and self._follows(first):
            self._change_all(changes)
        else:
            for event, arrival in zip(changes.events(), fields.arrivals, strict=True):
                self._catch_up(snapshots, whole, event.sequence - 1)
                self._change(event, arrival)
        self.market_id = self.market_id or fields.market_ids[0]
        self.changes += len(changes)
        if self.first_sequence is None:
            self.first_sequence = first
        self.last_sequence = last
        if not self._replays.isdisjoint(fields.sources):
            self.replayed += sum(source in self._replays for source in fields.sources)
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
            self._skip(self._reached + 1, at)
        entry = whole[at]
        self._load(_decode(entry.event), entry, "joined" if self._reached < 0 else "resync")

    def _confirm(self, whole: dict[int, Entry]) -> None:
        """Note that a whole book is the one that is known: nothing has changed it up to there."""
        if self._book is not None and (entry := whole.get(self._book.sequence)) is not None:
            self._at = max(self._at, entry.height)

    def _load(self, event: Book, entry: Entry, reason: Reason) -> None:
        book = self._book = OrderBook(event.market_id)
        book.load(event.sequence, event.bids, event.asks)
        if self._with_tops:
            self._top.load(book)
        self._reached = max(self._reached, event.sequence)
        self._reach(event.height)
        self.keyframes.append((*book_row(event, self.symbol, entry), reason))

    def _follows(self, sequence: int) -> bool:
        """Say whether a change is the next one of the book as it stands."""
        return self._book is not None and sequence == self._book.sequence + 1

    def _change_all(self, changes: Changes) -> None:
        """Apply changes that follow the book, and each other: nearly always all of them."""
        assert self._book is not None
        last = changes.fields.sequences[-1]
        self._book.change(last, *changes.sides.newest())
        self._reached = last
        self._reach(changes.fields.heights[-1])

    def _change(self, change: Book, arrival: Arrival) -> None:
        sequence = change.sequence
        if 0 <= self._reached < sequence - 1:
            self._skip(self._reached + 1, sequence - 1)
        self._reached = max(self._reached, sequence)
        book = self._book
        if book is None or sequence <= book.sequence:
            return
        if sequence != book.sequence + 1:
            self._book = None
            return
        book.change(sequence, change.bids, change.asks)
        self._reach(change.height)
        if self._with_tops and self._top.follow(book, change.bids, change.asks):
            self.tops.append((_ticker(change, self._top), arrival))

    def _reach(self, height: int) -> None:
        """Note the block that the book is of; some sources do not tell it."""
        self._at = height or self._part.first
        self._is_older = False

    def _skip(self, first: int, last: int) -> None:
        """Note changes that are missing here, unless they are of an earlier part."""
        if not self._is_older:
            self._skipped.append((first, last))
        self._is_older = False

    @property
    def sequences_missing(self) -> int:
        """Number of changes that are missing."""
        return count(union(self._skipped))

    def end(self, market_id: str, lacking: Iterable[tuple[int, int]] = ()) -> Carried | None:
        """
        Return the book at the end of the part, or as far as it is known; None if it is unknown.

        Args:
            market_id: The market's.
            lacking: Those of the part's heights that lack the book's changes, in order.

        """
        if self._book is None:
            return None
        bids, asks = self._book.levels()
        height = self._known_through(lacking)
        return Carried(market_id, self.symbol, height, self._book.sequence, bids, asks)

    def _known_through(self, lacking: Iterable[tuple[int, int]]) -> int:
        """Return the last height before the next one that is missing."""
        first, last = self._part
        if self._at < first - 1:
            # Blocks of an earlier part are missing next, and no later change shows that they left it alone.
            return self._at
        unknown = within(lacking, self._at + 1, last)
        return unknown[0][0] - 1 if unknown else last


def of_each_market(
    entries: list[Entry], carried: Carried | None
) -> list[tuple[list[Entry], Carried | None]]:
    """
    Split a topic's entries by market: nearly always there is one.

    A market may be listed under the symbol of one that was removed. Its sequences start over.
    """
    if not entries:
        return [(entries, carried)]
    ends = [entries[0].event, entries[-1].event]
    ids = {head.market_id for head in _decode_heads(array_of(ends))}
    if carried is not None and carried.market_id:
        ids.add(carried.market_id)
    if len(ids) == 1:
        return [(entries, carried)]
    found: dict[str, list[Entry]] = {}
    heads = _decode_heads(array_of([entry.event for entry in entries]))
    for head, entry in zip(heads, entries, strict=True):
        found.setdefault(head.market_id, []).append(entry)
    return [
        (of_market, carried if carried is not None and carried.market_id == market_id else None)
        for market_id, of_market in found.items()
    ]


def _by_sequence(told: Changes) -> tuple[dict[int, int], dict[int, int]]:
    """Return where the changes and the whole books stand, one for each sequence."""
    are_whole = told.fields.are_snapshots
    if True not in are_whole:
        return _each_once(told, range(len(told))), {}
    places: tuple[list[int], list[int]] = ([], [])
    for place, is_whole in enumerate(are_whole):
        places[is_whole].append(place)
    return _each_once(told, places[False]), _each_once(told, places[True])


def _each_once(told: Changes, places: Sequence[int]) -> dict[int, int]:
    sequences, sources = told.fields.sequences, told.fields.sources
    found = {sequences[place]: place for place in places}
    if len(found) == len(places):
        return found
    best: dict[int, int] = {}
    replays = registry.replays()
    for place in places:
        known = best.get(sequences[place])
        # A live copy has timestamps that a fetched one lacks.
        if known is None or (sources[known] in replays and sources[place] not in replays):
            best[sequences[place]] = place
    return best


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
