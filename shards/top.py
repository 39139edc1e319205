"""
The best bid and ask of a book, followed through its changes without a look at all of it.

Only where the best level itself goes away is its side searched for the next one; so a
block that changes depth costs one comparison a level.
"""

from collections.abc import Collection
from typing import TypeAlias

from shards.book import OrderBook
from shards.events import ZERO, Level

Best: TypeAlias = tuple[str, str, str, str]
"""``(bid price, bid quantity, ask price, ask quantity)``; empty texts for an empty side."""


class Top:
    """Where the top of one book stands, and what was last told of it."""

    __slots__ = ("_ask", "_bid", "best")

    def __init__(self) -> None:
        self._bid = self._ask = ""
        self.best: Best = ("", "", "", "")

    def load(self, book: OrderBook) -> None:
        """Look at a whole book: it was fetched, or changed unseen."""
        self._bid, self._ask = _highest(book.bids), _lowest(book.asks)
        self._look(book)

    def follow(self, book: OrderBook, bids: list[Level], asks: list[Level]) -> bool:
        """Take what has just been applied to the book; say whether the best changed."""
        if bids:
            self._bid = self._follow_bids(book.bids, bids)
        if asks:
            self._ask = self._follow_asks(book.asks, asks)
        before = self.best
        self._look(book)
        return self.best != before

    def _look(self, book: OrderBook) -> None:
        bid, ask = self._bid, self._ask
        self.best = (
            (bid, book.bids[bid], ask, book.asks[ask])
            if bid and ask
            else (bid, book.bids.get(bid, ""), ask, book.asks.get(ask, ""))
        )

    def _follow_bids(self, side: dict[str, str], changes: list[Level]) -> str:
        # Texts of one length order as the numbers do (events.py), so lengths come first.
        best, size, gone = self._bid, len(self._bid), False
        for price, quantity in changes:
            if quantity == ZERO:
                gone = gone or price == best
            elif (found := len(price)) > size or (found == size and price > best):
                best, size, gone = price, found, False
        return _highest(side) if gone else best

    def _follow_asks(self, side: dict[str, str], changes: list[Level]) -> str:
        best, size, gone = self._ask, len(self._ask), False
        for price, quantity in changes:
            if quantity == ZERO:
                gone = gone or price == best
            elif not size or (found := len(price)) < size or (found == size and price < best):
                best, size, gone = price, len(price), False
        return _lowest(side) if gone else best


def _highest(prices: Collection[str]) -> str:
    """Return the highest price; empty where there is none."""
    # Two passes in C are three times as fast as one with a key function.
    size = max(map(len, prices), default=0)
    return max((price for price in prices if len(price) == size), default="")


def _lowest(prices: Collection[str]) -> str:
    """Return the lowest price; empty where there is none."""
    size = min(map(len, prices), default=0)
    return min((price for price in prices if len(price) == size), default="")
