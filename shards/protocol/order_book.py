"""The book of one market: price levels and the sequence of the last change. Plain data."""

from collections.abc import Iterable
from typing import Final

import msgspec

from shards.protocol.errors import SequenceGap
from shards.protocol.events import ZERO, Book, Level

_LOOK: Final = 256 - 1
"""Deltas between two removals of empty levels."""
_decode: Final = msgspec.msgpack.Decoder(Book).decode


def _by_number(prices: Iterable[str], *, highest_first: bool) -> list[str]:
    """Sort positive 18-decimal texts by number: by length, then as text (events.py)."""
    found = sorted(prices, reverse=highest_first)
    # The sort is stable: two C sorts take a third of the time of one with a Python key.
    found.sort(key=len, reverse=highest_first)
    return found


def _left(side: dict[str, str]) -> list[str]:
    """Return the prices of a side that are not empty."""
    return [price for price, quantity in side.items() if quantity != ZERO]


class OrderBook:
    """
    Both sides of a book, price text to quantity text, and its sequence.

    A delta is applied whole, removals included, so that levels never pass through Python.
    Removed levels stay as empty ones, since most come back: `levels` passes over them, and drops them if
    they are the majority. `bids`, `asks` and every `_LOOK` deltas drop them all. A delta can also be
    deferred: then the book counts it at once, and its levels change before the next read.
    """

    __slots__ = ("_asks", "_bids", "_deferred", "_is_clean", "market_id", "sequence")

    def __init__(self, market_id: str) -> None:
        self.market_id = market_id
        self._bids: dict[str, str] = {}
        self._asks: dict[str, str] = {}
        self._is_clean = True
        """Whether no removed level is left in it, and no delta is deferred."""
        self._deferred: list[bytes] = []
        """Encoded deltas whose levels are not in it yet, in order."""
        self.sequence = 0

    def load(self, sequence: int, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Replace the whole book by a snapshot."""
        self._bids = dict(bids)
        self._asks = dict(asks)
        self._is_clean = False
        self._deferred.clear()
        self.sequence = sequence

    def apply(self, sequence: int, bids: list[Level], asks: list[Level]) -> None:
        """
        Change the levels that a delta names.

        A removal may name a level that does not exist; upstream sends such removals.

        Raises:
            SequenceGap: If the delta does not follow the last applied one. The book is
                unchanged; load a snapshot before applying more.

        """
        if sequence != self.sequence + 1:
            raise SequenceGap(self.market_id, expected=self.sequence + 1, found=sequence)
        self.change(sequence, bids, asks)

    def change(self, sequence: int, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Like `apply`, for a caller that has checked the sequence; also of many deltas in order."""
        if self._deferred:
            self.settle()
        self.sequence = sequence
        self._bids.update(bids)
        self._asks.update(asks)
        self._is_clean = False
        if not sequence & _LOOK:
            self._drop_removed()

    def defer(self, event: bytes) -> None:
        """Count a delta that follows the last one; its levels change in `settle`, or on the next read."""
        self.sequence += 1
        self._deferred.append(event)
        self._is_clean = False

    def settle(self, most: int | None = None) -> None:
        """Change the levels that deferred deltas name; ``most``: only those of the oldest ones."""
        deferred, self._deferred = (
            self._deferred[:most],
            [] if most is None else self._deferred[most:],
        )
        for event in deferred:
            delta = _decode(event)
            self._bids.update(delta.bids)
            self._asks.update(delta.asks)
        if (self.sequence - len(self._deferred)) & _LOOK < len(deferred):
            self._drop_zeros()

    @property
    def bids(self) -> dict[str, str]:
        """Quantities by price, unordered."""
        if not self._is_clean:
            self._drop_removed()
        return self._bids

    @property
    def asks(self) -> dict[str, str]:
        """Quantities by price, unordered."""
        if not self._is_clean:
            self._drop_removed()
        return self._asks

    def _drop_removed(self) -> None:
        if self._deferred:
            self.settle()
        self._is_clean = True
        self._drop_zeros()

    def _drop_zeros(self) -> None:
        for side in (self._bids, self._asks):
            for price in [price for price, quantity in side.items() if quantity == ZERO]:
                del side[price]

    def levels(self) -> tuple[list[Level], list[Level]]:
        """Return bids from the highest price down, asks from the lowest up."""
        if self._deferred:
            self.settle()
        bids, asks = self._bids, self._asks
        found = (
            [(price, bids[price]) for price in _by_number(_left(bids), highest_first=True)],
            [(price, asks[price]) for price in _by_number(_left(asks), highest_first=False)],
        )
        if len(bids) + len(asks) > 2 * (len(found[0]) + len(found[1])):
            self._drop_removed()
        return found

    def __repr__(self) -> str:
        return (
            f"<OrderBook {self.market_id[:10]}, sequence {self.sequence}, "
            f"{len(self.bids)} bids, {len(self.asks)} asks>"
        )
