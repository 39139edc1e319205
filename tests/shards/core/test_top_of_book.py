"""The top of a book, followed through changes, is what a look at all of it finds."""

from decimal import Decimal

from hypothesis import given, settings, strategies as st

from shards.core.top_of_book import TopOfBook
from shards.protocol.events import ZERO, Level
from shards.protocol.order_book import OrderBook
from tests.searches import examples

# Of unlike lengths, so that the order of texts alone would be wrong; few, so that they meet.
PRICES = [
    f"{whole}.{fraction:018}" for whole in (0, 9, 10, 99, 100) for fraction in (1, 5 * 10**17)
]
QUANTITIES = st.sampled_from([ZERO, ZERO, "1.000000000000000000", "2.000000000000000000"])
CHANGES = st.dictionaries(st.sampled_from(PRICES), QUANTITIES, max_size=6).map(
    lambda side: list(side.items())
)


def looked_up(book: OrderBook) -> tuple[str, str, str, str]:
    bid = max(book.bids, key=Decimal, default="")
    ask = min(book.asks, key=Decimal, default="")
    return bid, book.bids.get(bid, ""), ask, book.asks.get(ask, "")


@settings(max_examples=examples(300), deadline=None)
@given(
    start=st.tuples(CHANGES, CHANGES),
    blocks=st.lists(st.tuples(CHANGES, CHANGES), max_size=12),
)
def test_it_is_the_best_of_the_book_and_tells_every_change_and_no_other(
    start: tuple[list[Level], list[Level]], blocks: list[tuple[list[Level], list[Level]]]
) -> None:
    book, top = OrderBook("0xa"), TopOfBook()
    book.load(1, *([level for level in side if level[1] != ZERO] for side in start))
    top.load(book)
    assert top.best == looked_up(book)
    for sequence, (bids, asks) in enumerate(blocks, start=2):
        before = looked_up(book)
        book.apply(sequence, bids, asks)
        assert top.follow(book, bids, asks) == (looked_up(book) != before)
        assert top.best == looked_up(book)
