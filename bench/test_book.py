"""Applying updates to books, and writing a whole book out."""

import pytest

from bench.conftest import PerUpdate
from bench.content import content
from shards.protocol.order_book import OrderBook

pytestmark = pytest.mark.benchmark(group="book")


def _books() -> dict[str, OrderBook]:
    made = content()
    books = {}
    for market_id, snapshot in made.books.items():
        books[market_id] = OrderBook(market_id)
        books[market_id].load(snapshot.sequence, snapshot.bids, snapshot.asks)
    return books


def test_apply(per_update: PerUpdate) -> None:
    """Apply updates of 16 levels."""
    made = content()
    updates = [update for block in made.made for update in block.updates]

    def run(books: dict[str, OrderBook]) -> None:
        for update in updates:
            books[update.market_id].apply(update.sequence, update.bids, update.asks)

    per_update(run, updates=len(updates), setup=lambda: (_books(),))


def test_levels(per_update: PerUpdate) -> None:
    """Sort whole books, as each keyframe does."""
    books = _books()
    per_update(lambda: [book.levels() for book in books.values()], updates=len(books))
