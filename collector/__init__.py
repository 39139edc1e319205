"""
The upper half: what people start, and what they import to read the published frames and the archive.

    from collector import Book, Subscriber

    with Subscriber(markets=["INJ-USDT"]) as subscriber:
        for received in subscriber:
            print(received.topic, received.event)

    import collector, polars
    trades = polars.DataFrame(collector.read("archive", "trades", markets="INJ-USDT"))

The names below load on first use: ``import collector`` alone stays cheap, without ZeroMQ.
"""

from importlib import import_module

from collector.settings.version import __version__ as __version__

TYPE_CHECKING = False
"""For type checkers true; `typing` takes a third of the time until a command begins."""
if TYPE_CHECKING:
    from collector.access.key_files import Keys as Keys
    from collector.archive.reading.book_at import book_at as book_at
    from collector.archive.reading.tables import read as read
    from collector.client.received import (
        ChainReplaced as ChainReplaced,
        Event as Event,
        Joined as Joined,
        Lost as Lost,
        Received as Received,
        Unanswered as Unanswered,
    )
    from collector.client.subscriber import Subscriber as Subscriber
    from shards.protocol.events import (
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
    from shards.protocol.order_book import OrderBook as OrderBook

_HOMES = {
    "Book": "shards.protocol.events",
    "Event": "collector.client.received",
    "Funding": "shards.protocol.events",
    "Gap": "shards.protocol.events",
    "ChainReplaced": "collector.client.received",
    "Joined": "collector.client.received",
    "Keys": "collector.access.key_files",
    "Lost": "collector.client.received",
    "Metadata": "shards.protocol.events",
    "Oracle": "shards.protocol.events",
    "Order": "shards.protocol.events",
    "OrderBook": "shards.protocol.order_book",
    "Orders": "shards.protocol.events",
    "Price": "shards.protocol.events",
    "Pulse": "shards.protocol.events",
    "Received": "collector.client.received",
    "Subscriber": "collector.client.subscriber",
    "Ticker": "shards.protocol.events",
    "Trade": "shards.protocol.events",
    "Trades": "shards.protocol.events",
    "Unanswered": "collector.client.received",
    "book_at": "collector.archive.reading.book_at",
    "read": "collector.archive.reading.tables",
}

__all__ = [  # noqa: RUF022 - the same names as in _HOMES
    "__version__",
    "Book",
    "Event",
    "Funding",
    "Gap",
    "ChainReplaced",
    "Joined",
    "Keys",
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
    "book_at",
    "read",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'collector' has no attribute {name!r}")
    try:
        return getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        from collector.settings.installed import missing

        raise ImportError(missing("archive", "pyarrow is"), name=error.name) from None
