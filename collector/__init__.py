"""
The upper half: what people start, and what they import to read the published frames.

    from collector import Book, Subscriber

    with Subscriber(markets=["INJ-USDT"]) as subscriber:
        for received in subscriber:
            print(received.topic, received.event)

The names below load on first use: ``import collector`` alone stays cheap, without ZeroMQ.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.reading.received import (
        Event as Event,
        Joined as Joined,
        Lost as Lost,
        Received as Received,
        Unanswered as Unanswered,
    )
    from collector.reading.subscriber import Subscriber as Subscriber
    from shards.book import OrderBook as OrderBook
    from shards.events import (
        Book as Book,
        Funding as Funding,
        Gap as Gap,
        Metadata as Metadata,
        Oracle as Oracle,
        Order as Order,
        Orders as Orders,
        Price as Price,
        Pulse as Pulse,
        Ticker as Ticker,
        Trade as Trade,
        Trades as Trades,
    )

__version__ = "0.1.0"

_HOMES = {
    "Book": "shards.events",
    "Event": "collector.reading.received",
    "Funding": "shards.events",
    "Gap": "shards.events",
    "Joined": "collector.reading.received",
    "Lost": "collector.reading.received",
    "Metadata": "shards.events",
    "Oracle": "shards.events",
    "Order": "shards.events",
    "OrderBook": "shards.book",
    "Orders": "shards.events",
    "Price": "shards.events",
    "Pulse": "shards.events",
    "Received": "collector.reading.received",
    "Subscriber": "collector.reading.subscriber",
    "Ticker": "shards.events",
    "Trade": "shards.events",
    "Trades": "shards.events",
    "Unanswered": "collector.reading.received",
}

__all__ = [  # noqa: RUF022 - the same names as in _HOMES
    "__version__",
    "Book",
    "Event",
    "Funding",
    "Gap",
    "Joined",
    "Lost",
    "Metadata",
    "Oracle",
    "Order",
    "OrderBook",
    "Orders",
    "Price",
    "Pulse",
    "Received",
    "Subscriber",
    "Ticker",
    "Trade",
    "Trades",
    "Unanswered",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'collector' has no attribute {name!r}")
    return getattr(import_module(home), name)
