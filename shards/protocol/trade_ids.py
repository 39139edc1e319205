"""
Which trades of one market are known, by id: for sources that send trades late or twice.

The numbers of all ids ``{height}_{n}`` of one height are the bits of one integer, so a busy
market costs little memory. The newest heights are remembered; every trade below them counts as
known, because at that age a duplicate does more harm than an hour-old trade does good.
"""

import enum
from collections.abc import Iterable
from typing import Final

from shards.protocol.events import Trade

_HEIGHTS: Final = 4_096
_NUMBERS: Final = 1 << 20
"""More trades than a block can have; each has one bit."""
_NAMES: Final = 65_536
"""Ids in any other format are remembered as text, up to this many."""


class TradeIdentity(enum.Enum):
    """How the trades of a source are told apart, so that each is delivered once."""

    HEIGHT = "height"
    """All trades of a block are in one event, and blocks in order: a height is delivered once."""
    ID = "id"
    """One by one, some late or twice: each trade by its id."""


def place_of(trade: Trade) -> tuple[int, int]:
    """
    Return a trade's height and its number in the block, from its id.

    Ids of old releases have a third part. It is folded into the number, which then only serves
    to tell trades apart.

    Raises:
        ValueError: If the id is not numeric, or its numbers are impossible for a block.

    """
    height, number, *rest = trade.trade_id.split("_")
    folded = int(number)
    for part in rest:
        folded = folded << 10 | int(part)
    if not 0 <= folded < _NUMBERS:
        raise ValueError(f"trade id {trade.trade_id}")
    return int(height), folded


def _place_or_none(trade: Trade) -> tuple[int, int] | None:
    try:
        return place_of(trade)
    except ValueError:
        return None


class KnownTrades:
    """The ids of one market's trades: its deduplication window."""

    __slots__ = ("_floor", "_limit", "_names", "_numbers")

    def __init__(self, heights: int = _HEIGHTS) -> None:
        self._numbers: dict[int, int] = {}
        self._limit = heights
        self._floor = 0
        self._names: dict[str, None] = {}

    def __contains__(self, trade: Trade) -> bool:
        place = _place_or_none(trade)
        if place is None:
            return trade.trade_id in self._names
        height, number = place
        return height < self._floor or bool(self._numbers.get(height, 0) >> number & 1)

    def take(self, trades: Iterable[Trade]) -> list[Trade]:
        """Return the trades not yet known, in order, and remember them."""
        fresh = []
        for trade in trades:
            if trade not in self:
                self._add(trade)
                fresh.append(trade)
        return fresh

    def forget(self, trades: Iterable[Trade]) -> None:
        """Remove trades from the known ones: they were not delivered after all."""
        for trade in trades:
            place = _place_or_none(trade)
            if place is None:
                self._names.pop(trade.trade_id, None)
                continue
            height, number = place
            if height in self._numbers:
                self._numbers[height] &= ~(1 << number)

    def _add(self, trade: Trade) -> None:
        place = _place_or_none(trade)
        if place is None:
            self._names[trade.trade_id] = None
            if len(self._names) > _NAMES:
                del self._names[next(iter(self._names))]
            return
        height, number = place
        numbers = self._numbers
        numbers[height] = numbers.get(height, 0) | 1 << number
        if len(numbers) > self._limit:
            lowest = min(numbers)
            del numbers[lowest]
            self._floor = lowest + 1

    def __repr__(self) -> str:
        return f"<KnownTrades of {len(self._numbers)} heights from {self._floor}, {len(self._names)} names>"
