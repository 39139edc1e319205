"""The books that a subscriber maintains for its reader, as of the last delivered event. Pure."""

from collector.client.received import ChainReplaced, Received
from collector.client.whole_book import load_or_apply
from shards.protocol.errors import SequenceGap
from shards.protocol.events import Book
from shards.protocol.order_book import OrderBook


class KeptBooks:
    """The current book of each market."""

    def __init__(self) -> None:
        self._books: dict[str, OrderBook] = {}

    def get(self, symbol: str) -> OrderBook | None:
        """Return a market's book; None if it is out of sync, or was not received yet."""
        return self._books.get(symbol)

    def take(self, received: Received) -> None:
        """Apply a delivered event."""
        if received.channel == "book":
            self._take_book(received.symbol, received.event)
        elif type(received.event) is ChainReplaced:
            self._books.clear()

    def _take_book(self, symbol: str, event: object) -> None:
        """Apply an event to its market's book; discard a book that is out of sync."""
        if not isinstance(event, Book):
            self._books.pop(symbol, None)
            return
        if event.is_snapshot:
            # A new object: references to the old one stay consistent, though outdated.
            self._books[symbol] = OrderBook(event.market_id)
        book = self._books.get(symbol)
        if book is None:
            return
        try:
            load_or_apply(book, event)
        except SequenceGap:
            del self._books[symbol]
