"""The book of one market: price levels and the sequence of the last change. Dumb data."""

from collections.abc import Iterable

from shards.errors import SequenceGap
from shards.events import ZERO, Level


def _by_price(level: Level) -> tuple[int, str]:
    """Order positive 18-decimal texts as numbers (events.py says why that holds)."""
    price = level[0]
    return len(price), price


class OrderBook:
    """Both sides of a book, price text to quantity text, and its sequence."""

    __slots__ = ("asks", "bids", "market_id", "sequence")

    def __init__(self, market_id: str) -> None:
        self.market_id = market_id
        self.bids: dict[str, str] = {}
        self.asks: dict[str, str] = {}
        self.sequence = 0

    def load(self, sequence: int, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Replace everything by a snapshot."""
        self.bids = dict(bids)
        self.asks = dict(asks)
        self.sequence = sequence

    def apply(self, sequence: int, bids: list[Level], asks: list[Level]) -> None:
        """
        Change the levels that a delta names.

        Raises:
            SequenceGap: If it does not follow the last applied one. The book is
                unchanged; load a snapshot before applying more.

        """
        if sequence != self.sequence + 1:
            raise SequenceGap(self.market_id, expected=self.sequence + 1, found=sequence)
        self.sequence = sequence
        side = self.bids
        for price, quantity in bids:
            # A removal may name a level that was never there: not an error upstream.
            if quantity == ZERO:
                side.pop(price, None)
            else:
                side[price] = quantity
        side = self.asks
        for price, quantity in asks:
            if quantity == ZERO:
                side.pop(price, None)
            else:
                side[price] = quantity

    def levels(self) -> tuple[list[Level], list[Level]]:
        """Return bids from the highest price down and asks from the lowest up."""
        return (
            sorted(self.bids.items(), key=_by_price, reverse=True),
            sorted(self.asks.items(), key=_by_price),
        )

    def __repr__(self) -> str:
        return (
            f"<OrderBook {self.market_id[:10]}, sequence {self.sequence}, "
            f"{len(self.bids)} bids, {len(self.asks)} asks>"
        )
