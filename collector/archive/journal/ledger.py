"""
The recorder's ledger per market: first height, lost, filled and unavailable heights. Pure.

It is rebuilt from the journal's notes after a restart.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

import msgspec

from collector.archive.journal.segment_file import Note
from collector.archive.storage.by_channel import EVER, ByChannel, applies
from shards.protocol.ranges import RangeList, count, minus, union, within

LEFT: Final = "left"
"""The text of a note: the recorder does not record this market any more."""
_OF_CHANNELS: Final = frozenset({"channels", "channel-end"})
"""Notes of all markets: channels, separated by spaces, begin at a height, or end before it."""


class MarketLedger(msgspec.Struct):
    """One market's heights."""

    market_id: str = ""
    type: str = ""
    first: int = -1
    """The first height recorded; -1 before there is any."""
    last: int = -1
    """The last height that is due; -1 while there is no end."""
    lost: RangeList = []
    """Not received and not fetched yet."""
    filled: RangeList = []
    """Fetched, whether they were lost or never wanted before."""
    gone: RangeList = []
    """Requested, but no source has them any more."""
    open_gaps: dict[int, tuple[int, int]] = {}
    """What the collector itself lacks: gap_id to heights; 0 where an end is not known yet."""
    gaps: int = 0
    absent_from: int = -1
    """The first height since its collection ended; -1 while it is collected."""
    is_left: bool = False
    """Whether it is this recorder that left it out, and not the collector."""
    absent: RangeList = []
    """Heights between the ends of its collection and its returns."""
    behind: RangeList = []
    """Not received yet, although others are a part ahead and their parts are sealed."""


class Ledger:
    """All markets' heights, by symbol."""

    def __init__(self) -> None:
        self.markets: dict[str, MarketLedger] = {}
        self.source = ""
        """What the collector read when this was recorded."""
        self.channels: dict[str, RangeList] | None = None
        """The heights in which each channel is recorded; None in older journals, which do not say it."""

    def of(self, symbol: str) -> MarketLedger:
        """Return a market's, made where it is new."""
        found = self.markets.get(symbol)
        if found is None:
            found = self.markets[symbol] = MarketLedger()
        return found

    def fold(self, notes: Iterable[Note]) -> None:
        """Take what was noted."""
        for note in notes:
            self._take(note)

    def _take(self, note: Note) -> None:
        if note.kind == "source":
            self.source = note.text
            return
        if note.kind in _OF_CHANNELS:
            self._take_channels(note)
            return
        if not note.symbol:
            # For all recorded markets.
            for symbol in list(self.markets):
                self._take(msgspec.structs.replace(note, symbol=symbol))
            return
        market, heights = self.of(note.symbol), (note.first, note.last)
        match note.kind:
            case "market":
                market.market_id, _, market.type = note.text.partition(" ")
            case "start":
                market.first = note.first if market.first < 0 else market.first
            case "end":
                market.last = note.last
            case "lost":
                market.lost = union([*market.lost, heights])
            case "filled":
                market.filled = union([*market.filled, heights])
                market.lost = minus(market.lost, [heights])
                market.gone = minus(market.gone, [heights])
            case "gone":
                market.lost = minus(market.lost, [heights])
                market.gone = union([*market.gone, heights])
            case "gap-open":
                market.gaps += int(note.text) not in market.open_gaps
                market.open_gaps[int(note.text)] = heights
            case "gap-closed":
                market.open_gaps.pop(int(note.text), None)
            case "removed":
                market.absent_from, market.is_left = note.first, note.text == LEFT
            case "again":
                market.is_left = False
                if market.absent_from >= 0:
                    market.absent = union([*market.absent, (market.absent_from, note.first - 1)])
                market.absent_from = -1
            case "absent":
                market.absent = union([*market.absent, heights])
            case "behind":
                market.behind = union([*market.behind, heights])
            case "caught":
                market.behind = minus(market.behind, [heights])
            case "replayed":
                # The collector has fetched what was published while it was not collected.
                market.absent = minus(market.absent, [heights])

    def _take_channels(self, note: Note) -> None:
        """Note the height from which channels are recorded, or stop being recorded."""
        found = self.channels = self.channels or {}
        since = [(note.first, EVER)]
        for channel in note.text.split():
            known = found.get(channel, [])
            is_end = note.kind == "channel-end"
            found[channel] = minus(known, since) if is_end else union([*known, *since])

    def by_channel(self, first: int, last: int) -> ByChannel | None:
        """Return the channels of a part, and which heights each lacks that are here otherwise."""
        if self.channels is None:
            return None
        return {
            channel: {
                symbol: lacking
                for symbol in self.markets
                if applies(channel, symbol)
                and (lacking := minus(self.had(symbol, first, last), spans))
            }
            for channel, spans in sorted(self.channels.items())
            if within(spans, first, last)
        }

    def had(self, symbol: str, first: int, last: int) -> RangeList:
        """Return the heights of a range that are due of a market and not missing."""
        return minus(self.due(symbol, first, last), self.missing(symbol, first, last))

    def came(self, symbol: str, first: int, last: int) -> RangeList:
        """Return the same, with what was fetched although it was not due."""
        here = [*self.due(symbol, first, last), *self.of(symbol).filled]
        return within(minus(here, self.missing(symbol, first, last)), first, last)

    def to_fetch(self) -> RangeList:
        """Return the lost heights of any market that may still be available."""
        return union(
            heights
            for market in self.markets.values()
            for heights in minus(market.lost, market.gone)
        )

    def lacking(self, height: int) -> dict[str, str]:
        """Return the markets that lost a height, their symbols by id; the chain is ``chain``."""
        return {
            market.market_id or symbol: symbol
            for symbol, market in self.markets.items()
            if any(first <= height <= last for first, last in market.lost)
        }

    def missing(self, symbol: str, first: int, last: int) -> RangeList:
        """Return the heights of a range that a market lacks."""
        known = [*self._lost(symbol), *self.of(symbol).absent]
        return within(known, first, last)

    def _lost(self, symbol: str) -> Iterator[tuple[int, int]]:
        market = self.of(symbol)
        gaps = [(low, high) for low, high in market.open_gaps.values() if low and high]
        return chain(market.lost, market.gone, gaps, market.behind)

    def without_book(self, symbol: str, first: int, last: int) -> RangeList:
        """
        Return the heights of a range that are due and lack the changes of a market's book, in order.

        While a market is not listed, its book does not change.
        """
        lacking = [*self._lost(symbol)]
        if self.channels is not None:
            lacking += minus([(first, last)], self.channels.get("book", []))
        return [
            r for low, high in self.due(symbol, first, last) for r in within(lacking, low, high)
        ]

    def due(self, symbol: str, first: int, last: int) -> RangeList:
        """Return the heights of a range from the first to the last that a market should have."""
        market = self.of(symbol)
        if market.first < 0:
            return []
        end = market.last if market.last >= 0 else last
        if market.absent_from >= 0:
            end = min(end, market.absent_from - 1)
        due = minus(within([(first, last)], market.first, end), market.absent)
        return [(due[0][0], due[-1][1])] if due else []

    def forget(self, through: int) -> None:
        """Forget what is sealed."""
        for market in self.markets.values():
            market.lost = within(market.lost, through + 1, 1 << 62)
            market.gone = within(market.gone, through + 1, 1 << 62)
            market.filled = within(market.filled, through + 1, 1 << 62)
            market.absent = within(market.absent, through + 1, 1 << 62)
            market.behind = within(market.behind, through + 1, 1 << 62)
            market.open_gaps = {
                gap: (low, high)
                for gap, (low, high) in market.open_gaps.items()
                if not high or high > through
            }

    @property
    def behind_from(self) -> int:
        """The lowest height that a lagging market lacks; -1 if none lags."""
        behind = [m.behind[0][0] for m in self.markets.values() if m.behind and m.absent_from < 0]
        return min(behind, default=-1)

    def notes(self) -> list[Note]:
        """Return notes from which all of this can be folded again."""
        found: list[Note] = [Note("source", "", 0, 0, self.source), *self._channel_notes()]
        for symbol, market in self.markets.items():
            found.append(Note("market", symbol, 0, 0, f"{market.market_id} {market.type}"))
            if market.first >= 0:
                found.append(Note("start", symbol, market.first, market.first))
            found += [Note("lost", symbol, *heights) for heights in market.lost]
            found += [Note("gone", symbol, *heights) for heights in market.gone]
            found += [Note("absent", symbol, *heights) for heights in market.absent]
            found += [Note("behind", symbol, *heights) for heights in market.behind]
            if market.absent_from >= 0:
                text = LEFT if market.is_left else ""
                found.append(Note("removed", symbol, market.absent_from, 0, text))
            found += [
                Note("gap-open", symbol, *heights, str(gap))
                for gap, heights in market.open_gaps.items()
            ]
        return found

    def _channel_notes(self) -> Iterator[Note]:
        if self.channels is not None:
            yield Note("channels", "", 0, 0)
        for channel, spans in (self.channels or {}).items():
            for first, last in spans:
                yield Note("channels", "", first, 0, channel)
                if last < EVER:
                    yield Note("channel-end", "", last + 1, 0, channel)

    @property
    def missing_heights(self) -> int:
        """How many heights are missing now, over all markets."""
        return sum(count(union([*m.lost, *m.gone])) for m in self.markets.values())
