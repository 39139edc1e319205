"""
The pipeline's output: events become records, and missing data becomes requests.

The feeds append; the worker takes both lists after each payload or answer.
"""

from collections.abc import Collection, Iterable
from typing import Final, TypeAlias
from zlib import crc32

import msgspec

from shards.protocol.channels import BY_EVENT, BY_KIND, DEFAULT_CHANNELS
from shards.protocol.events import Book, Gap, Oracle, OtherEvent, Trades, number_if_any
from shards.protocol.frames import (
    BY_ID,
    KEYFRAME,
    KIND_BOOK,
    KIND_GAP,
    KIND_TRADES,
    LATE,
    SNAPSHOT,
    Record,
    decode_gap,
    encode,
    topic,
)
from shards.protocol.settings import Limits, Market
from shards.protocol.text import symbol_of
from shards.protocol.trade_ids import TradeIdentity

_OVERDUE: Final = 96
"""Deltas without a keyframe at most, where it is put off: the aggregator keeps at least 112 frames of a
topic, and late joiners need the keyframe and all after it."""
_BOOK_ALONE: Final = 1 << 62
"""Above every height: no block needs to be replayed (`Track.rewind`)."""


class NeedSnapshot(msgspec.Struct, frozen=True):
    """Fetch a market's book; at exactly ``height`` if it is not 0."""

    market_id: str
    height: int


class NeedReplay(msgspec.Struct, frozen=True):
    """Blocks are missing; `Blocks.due_replays` returns their heights."""


class NeedSubscription(msgspec.Struct, frozen=True):
    """A market's subscription is dead: make a new one."""

    market_id: str


Request: TypeAlias = NeedSnapshot | NeedReplay | NeedSubscription


class Dropped(msgspec.Struct, frozen=True):
    """Which data of one market never left the process."""

    height: int
    """The lowest height among its records; above every height if only the book is affected."""
    records: list[Record]


class _MarketTopics(msgspec.Struct, gc=False):
    """The constant parts of one market's frames."""

    symbol: str
    book: str
    trades: str
    gap: str
    first: int
    """Initial delta count, staggered per market, so that keyframes do not all land in one block."""
    deltas: int
    """Deltas since the last keyframe."""


class RecordBuilder:
    """The records and requests of one shard that were not taken yet."""

    def __init__(
        self,
        *,
        trade_identity: TradeIdentity,
        limits: Limits,
        channels: Collection[str] = DEFAULT_CHANNELS,
    ) -> None:
        self.records: list[Record] = []
        self.requests: list[Request] = []
        self.transitions = 0
        """Grows when a feed comes, goes or changes its state, which is reported at once."""
        self.moved: set[str] = set()
        """The markets that were not steady (`Track.is_steady`) since reports looked at them."""
        self._by_id = trade_identity is TradeIdentity.ID
        self._limits = limits
        self._keyframe_every = every = limits.keyframe_every
        self._overdue = max(every + 1, min(every * 3 // 2, _OVERDUE))
        self._lanes: dict[str, _MarketTopics] = {}
        self._channels = frozenset(channels)
        self._with_book = "book" in channels
        self._with_trades = "trades" in channels
        self._states: dict[str, Record] = {}
        """The newest frame of each conflated topic, for a new aggregator."""

    def add(self, market: Market) -> None:
        """Prepare for the events of one more market."""
        self.transitions += 1
        first = crc32(market.symbol.encode()) % self._keyframe_every
        self._lanes[market.market_id] = _MarketTopics(
            market.symbol,
            topic("book", market.symbol),
            topic("trades", market.symbol),
            topic("gap", market.symbol),
            first,
            first,
        )

    def remove(self, market_id: str) -> None:
        """Stop producing records for a market; those already made are still sent."""
        self.transitions += 1
        lane = self._lanes.pop(market_id)
        ours = tuple(
            name
            for name in self._states
            if name.endswith(f".{lane.symbol}.")
            # Oracle prices have their own symbols and come with the chain's feed.
            or (market_id == "chain" and name.startswith("oracle."))
        )
        for name in ours:
            del self._states[name]

    # ---- events ---------------------------------------------------------------------

    def book(self, event: Book, late: bool = False) -> bool:
        """
        Make a book frame; return True if a keyframe of the whole book is due after it.

        ``late`` marks an event that waited here for a snapshot or for lost blocks.
        """
        if not self._with_book:
            # The book is kept only for another channel.
            return False
        lane = self._lanes[event.market_id]
        flags = LATE if late else 0
        if event.is_snapshot:
            flags |= SNAPSHOT
            lane.deltas = lane.first
        else:
            lane.deltas += 1
        self.records.append(
            Record(
                lane.book,
                KIND_BOOK,
                flags,
                event.height,
                event.sequence,
                1,
                event.ts_event,
                event.ts_recv,
                encode(event),
            )
        )
        return lane.deltas >= self._keyframe_every

    def is_overdue(self, market_id: str) -> bool:
        """Return whether a market's keyframe must not be put off any longer."""
        return self._lanes[market_id].deltas >= self._overdue

    def keyframe(self, event: Book, *, deltas: int | None = None) -> None:
        """Make a keyframe of the whole book for late joiners, and restart the delta count."""
        if not self._with_book:
            return
        lane = self._lanes[event.market_id]
        lane.deltas = lane.first if deltas is None else deltas
        self.records.append(
            Record(
                lane.book,
                KIND_BOOK,
                SNAPSHOT | KEYFRAME,
                event.height,
                event.sequence,
                1,
                0,
                event.ts_recv,
                encode(event),
            )
        )

    def trades(self, event: Trades, late: bool = False) -> None:
        """Make the trades frame of one block."""
        if not self._with_trades:
            # A replayed block contains them even if they are not collected.
            return
        by_id = self._by_id
        flags = (BY_ID if by_id else 0) | (LATE if late else 0)
        self.records.append(
            Record(
                self._lanes[event.market_id].trades,
                KIND_TRADES,
                flags,
                event.height,
                0 if by_id else number_if_any(event.trades[-1]) or 0,
                len(event.trades),
                event.ts_event,
                event.ts_recv,
                encode(event),
            )
        )

    def gap(self, event: Gap) -> None:
        """Make a gap frame; it keeps its place among the market's other frames."""
        name = self._lanes[event.market_id].gap
        self.records.append(
            Record(name, KIND_GAP, LATE, event.first, event.gap_id, 1, 0, event.ts, encode(event))
        )

    def other(self, market_id: str, event: OtherEvent, late: bool = False) -> None:
        """Make a frame of an optional channel from its row (channels.py), if it is collected."""
        channel = BY_EVENT[type(event)]
        lane = self._lanes.get(market_id)
        is_collected = channel.name in self._channels or not channel.is_offered
        if not is_collected or lane is None:
            return
        # Oracle prices have their own symbols.
        symbol = symbol_of(event.symbol) if type(event) is Oracle else lane.symbol
        name = topic(channel.name, symbol)
        record = Record(
            name,
            channel.kind,
            (LATE if late else 0) | (SNAPSHOT if channel.is_state else 0),
            event.height,
            getattr(event, "sequence", 0),
            len(getattr(event, channel.items)) if channel.items else 1,
            event.ts_event,
            event.ts_recv,
            encode(event),
        )
        self.records.append(record)
        if channel.is_state:
            self._states[name] = record

    def states(self) -> None:
        """Make a keyframe of every conflated topic, for a new aggregator's late joiners."""
        for record in self._states.values():
            flags = SNAPSHOT | KEYFRAME | LATE
            self.records.append(msgspec.structs.replace(record, flags=flags))

    def forget(self) -> None:
        """Discard all records and requests: the chain was replaced."""
        self.records.clear()
        self.requests.clear()
        self._states.clear()
        for lane in self._lanes.values():
            lane.deltas = lane.first

    # ---- wants ------------------------------------------------------------------------

    def want_snapshot(self, market_id: str, height: int) -> None:
        """Request a snapshot of a market's book."""
        self.requests.append(NeedSnapshot(market_id, height))

    def want_replay(self) -> None:
        """Request the replay of missing blocks."""
        if not self.requests or self.requests[-1] != NeedReplay():
            self.requests.append(NeedReplay())

    def want_subscription(self, market_id: str) -> None:
        """Request a new subscription for a market."""
        self.requests.append(NeedSubscription(market_id))

    # ---- what came back -------------------------------------------------------------

    def dropped(self, records: Iterable[Record]) -> tuple[int, dict[str, Dropped]]:
        """
        Take back records that never left the process.

        Return their number (without gaps and keyframes), and what was dropped per market id. Gaps
        that were never announced outside are announced again.
        """
        first: dict[str, int] = {}
        lost: dict[str, list[Record]] = {}
        gaps: dict[tuple[str, int], list[Record]] = {}
        states: dict[str, Record] = {}
        again: list[Record] = []
        count = 0
        for record in records:
            if record.kind == KIND_GAP:
                gaps.setdefault((record.topic, record.sequence), []).append(record)
            if record.flags & KEYFRAME or record.kind == KIND_GAP:
                continue
            count += 1
            channel = BY_KIND[record.kind]
            if not channel.is_replayed:
                # It belongs to no block: send it again unchanged.
                if channel.is_state:
                    states[record.topic] = self._states[record.topic]
                else:
                    again.append(record)
                continue
            symbol = "chain." if channel.is_chain_wide else record.topic.partition(".")[2]
            # A fetched book may be older or newer than the blocks around it.
            is_whole_book = channel.needs_book and record.flags & SNAPSHOT
            height = _BOOK_ALONE if is_whole_book else record.height
            first[symbol] = min(first.get(symbol, height), height)
            lost.setdefault(symbol, []).append(record)
        self.records += [told[-1] for told in gaps.values() if not _opened_and_closed(told)]
        self.records += [*states.values(), *again]
        of_market = {
            market_id: Dropped(first[symbol], lost[symbol])
            for market_id, lane in self._lanes.items()
            if (symbol := f"{lane.symbol}.") in first
        }
        return count, of_market


def _opened_and_closed(told: list[Record]) -> bool:
    """Return whether a gap's opening and closing are both among the dropped frames."""
    first, last = decode_gap(told[0].event), decode_gap(told[-1].event)
    # A gap may be opened repeatedly; in the first opening ``ts`` equals the gap's id.
    opened = first.state == "open" and first.ts == first.gap_id
    return opened and last.state == "closed"
