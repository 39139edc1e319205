"""The book against a model of dictionaries and decimals."""

import sys
from decimal import Decimal
from itertools import cycle

import pytest
from hypothesis import given, settings, strategies as st

from shards.protocol.errors import SequenceGap
from shards.protocol.events import ZERO, Book, Level
from shards.protocol.frames import encode
from shards.protocol.order_book import OrderBook
from tests.searches import examples
from tests.shards.chain import text

# Few prices over many magnitudes: the same levels are hit again, and text order is not
# the order of the numbers.
PRICES = st.sampled_from([1, 9, 10, 99, 999, 1_000, 1_001, 9_999, 10_000, 99_999, 123_456_789])
LEVELS = st.lists(st.tuples(PRICES.map(text), st.integers(0, 3).map(text)), max_size=6)
DELTAS = st.lists(st.tuples(LEVELS, LEVELS), max_size=20)


def as_numbers(levels: list[Level]) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(price), Decimal(quantity)) for price, quantity in levels]


def changed(side: dict[Decimal, Decimal], levels: list[Level]) -> None:
    """Do to the model what a delta says."""
    for price, quantity in as_numbers(levels):
        side[price] = quantity
        if not quantity:
            del side[price]


@settings(max_examples=examples(150), deadline=None)
@given(
    deltas=DELTAS,
    ways=st.lists(st.sampled_from(["change", "defer", "settle", "read"]), min_size=1, max_size=12),
)
def test_the_book_is_the_same_whether_its_deltas_are_deferred_or_not(
    deltas: list[tuple[list[Level], list[Level]]], ways: list[str]
) -> None:
    plain, book = OrderBook("0x1"), OrderBook("0x1")
    for way, (sequence, (bids, asks)) in zip(cycle(ways), enumerate(deltas, start=1), strict=False):
        plain.apply(sequence, bids, asks)
        if way == "change":
            book.apply(sequence, bids, asks)
        else:
            book.defer(encode(Book("0x1", 1, sequence, 0, 0, "chain-ws", False, bids, asks)))
        assert book.sequence == sequence, "a deferred delta counts at once"
        if way == "settle":
            book.settle()
        elif way == "read":
            assert (book.bids, book.asks) == (plain.bids, plain.asks)
    assert book.levels() == plain.levels()


def test_a_snapshot_replaces_deferred_deltas_too() -> None:
    book = OrderBook("0x1")
    book.defer(encode(Book("0x1", 1, 1, 0, 0, "chain-ws", False, [("9.0", "5")], [])))
    book.load(40, [("8.0", "2")], [])
    assert book.levels() == ([("8.0", "2")], [])


def test_removed_levels_are_dropped_where_all_deltas_are_deferred() -> None:
    book = OrderBook("0x00")
    for number in range(1, 2_001):
        price = f"{number + number % 2}.000000000000000000"
        quantity = "1.000000000000000000" if number % 2 else ZERO
        book.defer(
            encode(Book("0x00", 1, number, 0, 0, "chain-ws", False, [(price, quantity)], []))
        )
        if number % 3 == 0:
            book.settle()
        assert len(book._bids) < 400
    assert book.bids == {}


@settings(max_examples=examples(150), deadline=None)
@given(deltas=DELTAS)
def test_the_book_equals_a_naive_one_after_any_deltas(
    deltas: list[tuple[list[Level], list[Level]]],
) -> None:
    book = OrderBook("0x1")
    bids: dict[Decimal, Decimal] = {}
    asks: dict[Decimal, Decimal] = {}
    for sequence, (buys, sells) in enumerate(deltas, start=1):
        book.apply(sequence, buys, sells)
        changed(bids, buys)
        changed(asks, sells)
        said_bids, said_asks = book.levels()
        assert as_numbers(said_bids) == sorted(bids.items(), reverse=True)
        assert as_numbers(said_asks) == sorted(asks.items())
    assert book.sequence == len(deltas)
    assert dict(as_numbers([*book.bids.items()])) == bids


@settings(max_examples=examples(150), deadline=None)
@given(numbers=st.lists(st.integers(1, 10**30), max_size=30, unique=True))
def test_levels_are_in_the_order_of_the_numbers_whatever_their_length(numbers: list[int]) -> None:
    prices = [f"{number // 10**18}.{number % 10**18:018d}" for number in numbers]
    book = OrderBook("0x1")
    book.load(1, [(price, "1") for price in prices], [(price, "1") for price in prices])
    bids, asks = book.levels()
    assert [price for price, _ in asks] == sorted(prices, key=Decimal)
    assert [price for price, _ in bids] == sorted(prices, key=Decimal, reverse=True)


@pytest.mark.parametrize("sequence", [0, 6, 7, 9, 1_000])
def test_a_delta_that_does_not_follow_is_refused_and_changes_nothing(sequence: int) -> None:
    book = OrderBook("0x1")
    book.load(7, [("9.0", "1")], [("11.0", "2")])
    with pytest.raises(SequenceGap) as refused:
        book.apply(sequence, [("9.0", ZERO)], [("12.0", "1")])
    assert (refused.value.expected, refused.value.found) == (8, sequence)
    assert refused.value.market_id == "0x1"
    assert book.levels() == ([("9.0", "1")], [("11.0", "2")])
    assert book.sequence == 7


def test_removing_a_level_that_was_never_there_is_no_error() -> None:
    book = OrderBook("0x1")
    book.apply(1, [("9.0", ZERO)], [("11.0", ZERO)])
    assert book.levels() == ([], [])


def test_quantities_are_absolute() -> None:
    book = OrderBook("0x1")
    book.apply(1, [("9.0", "5")], [])
    book.apply(2, [("9.0", "3")], [])
    assert book.bids == {"9.0": "3"}


def test_a_snapshot_replaces_everything() -> None:
    book = OrderBook("0x1")
    book.apply(1, [("9.0", "5")], [("11.0", "1")])
    book.load(40, [("8.0", "2")], [])
    assert book.levels() == ([("8.0", "2")], [])
    assert book.sequence == 40
    assert repr(book) == "<OrderBook 0x1, sequence 40, 1 bids, 0 asks>"


def test_removed_levels_are_dropped_when_most_are_removed_and_somebody_looks() -> None:
    book = OrderBook("0x1")
    prices = [f"{n}.000000000000000000" for n in range(1, 11)]
    book.load(0, [], [(price, "1.000000000000000000") for price in prices])
    for sequence, price in enumerate(prices, start=1):
        book.apply(sequence, [], [(price, ZERO)])
        left = [(other, "1.000000000000000000") for other in prices[sequence:]]
        assert book.levels() == ([], left)
        assert len(book._asks) <= 2 * len(left)


def test_removed_levels_are_not_kept_for_ever_where_nobody_looks() -> None:
    book = OrderBook("0x00")
    book.load(0, [], [])
    before = sys.getallocatedblocks()
    for number in range(1, 20_001, 2):
        price = f"{number}.000000000000000000"
        book.apply(number, [(price, "1.000000000000000000")], [])
        book.apply(number + 1, [(price, ZERO)], [])
    assert sys.getallocatedblocks() - before < 2_000
    assert book.bids == {}
