"""One market as its page shows it: the book whole, trades once, bounded."""

import pytest

from collector.web.book_view import LEVELS, TRADES, BookView, shorter
from shards.protocol.events import Book, Trade, Trades
from shards.protocol.order_book import OrderBook


def amount(number: int) -> str:
    return f"{number}.500000000000000000"


def trades(height: int, *numbers: int) -> Trades:
    made = [
        Trade(f"{height}_{n}", "buy", amount(10), amount(2), "0", "Market", "0x", "0x", "inj")
        for n in numbers
    ]
    return Trades("0xid", height, height * 1_000_000_000, 0, "chain-ws", made)


def book(levels: int) -> tuple[OrderBook, Book]:
    made = OrderBook("0xid")
    made.load(
        7,
        [(amount(1_000 - n), amount(1)) for n in range(levels)],
        [(amount(2_000 + n), amount(1)) for n in range(levels)],
    )
    return made, Book("0xid", 3, 7, 5_000_000_000, 0, "chain-ws", False, [], [])


def test_the_book_is_told_whole_best_first_and_cut() -> None:
    view = BookView("INJ-USDT")
    view.book(*book(LEVELS + 20))
    told = view.changes(0)["book"]
    assert told["bids"][0] == ("1000.5", "1.5")
    assert told["asks"][0] == ("2000.5", "1.5")
    assert len(told["bids"]) == len(told["asks"]) == LEVELS
    assert told["levels"] == (LEVELS + 20, LEVELS + 20)
    assert (told["sequence"], told["height"], told["ts"]) == (7, 3, 5_000)


def test_a_book_out_of_order_is_not_shown() -> None:
    view = BookView("INJ-USDT")
    view.book(*book(1))
    seen = view.version
    view.book(None)
    assert view.changes(seen)["book"] is None


def test_a_fetched_book_keeps_the_time_of_the_last_change() -> None:
    view = BookView("INJ-USDT")
    kept, event = book(1)
    view.book(kept, event)
    view.book(kept, Book("0xid", 4, 8, 0, 0, "chain-ws", True, [], []))
    assert view.changes(0)["book"]["ts"] == 5_000


def test_trades_are_told_once_however_they_come() -> None:
    view = BookView("INJ-USDT")
    view.trades(trades(20, 1, 2))
    seen = view.version
    view.trades(trades(9, 0))  # from before, and by its text the greater id
    view.trades(trades(20, 1, 2, 3))
    assert [trade.trade_id for trade in view.changes(seen)["trades"]] == ["9_0", "20_3"]
    assert [trade.trade_id for trade in view.changes(0)["trades"]] == [
        "9_0", "20_1", "20_2", "20_3",
    ]  # fmt: skip


def test_only_the_newest_trades_are_kept() -> None:
    view = BookView("INJ-USDT")
    for height in range(1, TRADES + 30):
        view.trades(trades(height, 0))
    told = [trade.trade_id for trade in view.changes(0)["trades"]]
    assert told == [f"{height}_0" for height in range(30, TRADES + 30)]


def test_nothing_new_is_nothing_told() -> None:
    view = BookView("INJ-USDT")
    view.trades(trades(1, 0))
    assert view.changes(view.version) == {}
    view.trouble("the collector does not answer")
    seen = view.version
    view.trouble("the collector does not answer")
    assert view.changes(seen) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.500000000000000000", "10.5"),
        ("100.000000000000000000", "100"),
        ("0.000000000000000001", "0.000000000000000001"),
        ("100", "100"),
    ],
)
def test_amounts_lose_no_digit_that_counts(text: str, expected: str) -> None:
    assert shorter(text) == expected
