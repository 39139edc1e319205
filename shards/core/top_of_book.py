"""
The best bid and ask of a book, followed through its changes without a look at all of it.

Only where the best level itself goes away, or prices of unlike lengths meet, is its side
searched; so a block that changes depth costs one comparison a level, in C.
"""

from typing import TypeAlias

from shards.protocol.events import ZERO, Level
from shards.protocol.order_book import OrderBook

Best: TypeAlias = tuple[str, str, str, str]
"""``(bid price, bid quantity, ask price, ask quantity)``; empty texts for an empty side."""

_NONE: Level = ("", "")


class Top:
    """Where the top of one book stands."""

    __slots__ = ("best",)

    def __init__(self) -> None:
        self.best: Best = (*_NONE, *_NONE)

    def load(self, book: OrderBook) -> None:
        """Look at a whole book: it was fetched, or changed unseen."""
        self.best = (*_highest(book.bids), *_lowest(book.asks))

    def follow(self, book: OrderBook, bids: list[Level], asks: list[Level]) -> bool:
        """Take what has just been applied to the book; say whether the best changed."""
        before = self.best
        bid, bid_quantity, ask, ask_quantity = before
        if bids:
            bid, bid_quantity = _bid_after(book, bid, bid_quantity, dict(bids))
        if asks:
            ask, ask_quantity = _ask_after(book, ask, ask_quantity, dict(asks))
        self.best = (bid, bid_quantity, ask, ask_quantity)
        return self.best != before


def _bid_after(book: OrderBook, price: str, quantity: str, changed: dict[str, str]) -> Level:
    found = max(changed)
    # Texts of one length order as the numbers do (events.py), and nearly always they are.
    if len(found) == len(price) == max(map(len, changed)):
        if found < price:
            return price, quantity
        if (now := changed[found]) != ZERO:
            return found, now
    return _highest(book.bids)


def _ask_after(book: OrderBook, price: str, quantity: str, changed: dict[str, str]) -> Level:
    found = min(changed)
    if len(found) == len(price) == min(map(len, changed)):
        if found > price:
            return price, quantity
        if (now := changed[found]) != ZERO:
            return found, now
    return _lowest(book.asks)


def _highest(side: dict[str, str]) -> Level:
    """Return the level with the highest price; empty texts where there is none."""
    # Two passes in C are three times as fast as one with a key function.
    size = max(map(len, side), default=0)
    price = max((price for price in side if len(price) == size), default="")
    return (price, side[price]) if price else _NONE


def _lowest(side: dict[str, str]) -> Level:
    """Return the level with the lowest price; empty texts where there is none."""
    size = min(map(len, side), default=0)
    price = min((price for price in side if len(price) == size), default="")
    return (price, side[price]) if price else _NONE
