"""The exchange: seeded, contiguous, and its books are what its updates make of them."""

import pytest

from shards.protocol.events import ZERO
from tests.simulator.exchange import Activity, Exchange
from tests.simulator.markets import ALL_BUSY


def test_equal_seeds_make_equal_exchanges() -> None:
    one, two, other = (Exchange(seed, markets=30) for seed in (5, 5, 6))
    assert one.markets == two.markets != other.markets
    blocks = [[exchange.next_block().truth for _ in range(20)] for exchange in (one, two, other)]
    assert blocks[0] == blocks[1] != blocks[2]


def test_sequences_and_trade_ids_are_contiguous() -> None:
    exchange = Exchange(2, markets=30, activity=Activity(matches=3.0))
    last = {market.market_id: exchange.sequence(market.market_id) for market in exchange.markets}
    for _ in range(50):
        block = exchange.next_block()
        ids = [trade.trade_id for _, trade in block.trades]
        assert ids == [f"{block.height}_{n}" for n in range(len(ids))]
        for update in block.updates:
            last[update.market_id] += 1
            assert update.sequence == last[update.market_id]


def test_executions_are_numbered_as_a_node_publishes_them() -> None:
    exchange = Exchange(3, markets=30, activity=Activity(matches=20.0))
    phases = ["begin", "tx", "end"]
    for _ in range(20):
        where = [phases.index(e.where) for e in exchange.next_block().executions]
        assert where == sorted(where)


@pytest.mark.parametrize("history", [20, 300, 2_000])
def test_a_book_at_any_kept_height_is_what_the_updates_make(history: int) -> None:
    exchange = Exchange(4, markets=3, activity=Activity(touched=0.9), history=history)
    sides = {m.market_id: (dict(b.bids), dict(b.asks)) for m in exchange.markets for b in [exchange.book_at(m.market_id)]}  # fmt: skip
    expected = {}
    for _ in range(900):
        block = exchange.next_block()
        for update in block.updates:
            for side, levels in zip(
                sides[update.market_id], (update.bids, update.asks), strict=True
            ):
                side.update(levels)
        market_id = exchange.markets[block.height % 3].market_id
        bids, asks = ({p: q for p, q in side.items() if q != ZERO} for side in sides[market_id])
        expected[block.height] = (market_id, bids, asks, exchange.sequence(market_id))
    for height in range(exchange.oldest, exchange.height + 1, 7):
        market_id, bids, asks, sequence = expected[height]
        book = exchange.book_at(market_id, height)
        assert (dict(book.bids), dict(book.asks), book.sequence) == (bids, asks, sequence)
        assert book.height == height
    if history < 900:
        with pytest.raises(KeyError):
            exchange.book_at(exchange.markets[0].market_id, exchange.oldest - 2)


def test_books_never_cross() -> None:
    exchange = Exchange(5, markets=10, activity=Activity(touched=1.0, shares=ALL_BUSY))
    for _ in range(30):
        exchange.next_block()
    for market in exchange.markets:
        book = exchange.book_at(market.market_id)
        assert float(book.bids[0][0]) < float(book.asks[0][0])


def test_changes_delete_levels_that_nobody_knows() -> None:
    exchange = Exchange(6, markets=5, activity=Activity(touched=1.0, shares=ALL_BUSY))
    unknown = 0
    for _ in range(30):
        height = exchange.height
        block = exchange.next_block()
        for update in block.updates:
            known = {price for price, _ in exchange.book_at(update.market_id, height).bids}
            unknown += sum(q == ZERO and p not in known for p, q in update.bids)
    assert unknown


def test_some_markets_are_quiet_dead_or_paused() -> None:
    exchange = Exchange(7, markets=100)
    busy = {m.market_id for m in exchange.markets if m.activity == "busy" and m.status == "Active"}
    assert len(busy) == 82
    changed = {u.market_id for _ in range(60) for u in exchange.next_block().updates}
    assert changed == busy
    dead = next(m for m in exchange.markets if m.activity == "dead")
    assert exchange.book_at(dead.market_id).sequence == 0


def test_a_paused_market_stands_still_and_a_new_one_begins_at_one() -> None:
    exchange = Exchange(8, markets=12, activity=Activity(touched=1.0, shares=ALL_BUSY))
    exchange.next_block()
    paused = exchange.set_status(exchange.markets[0].ticker, "Paused").market_id
    new = exchange.list_market().market_id
    before = exchange.sequence(paused)
    updates = exchange.next_block().update_of
    assert paused not in updates
    assert updates[new].sequence == 1
    exchange.set_status(paused, "Active")
    assert exchange.next_block().update_of[paused].sequence == before + 1


def test_history_is_bounded_by_updates_too() -> None:
    activity = Activity(touched=1.0, shares=ALL_BUSY)
    exchange = Exchange(9, markets=50, activity=activity, history_updates=3_000)
    for _ in range(200):
        exchange.next_block()
    assert exchange.height - exchange.oldest + 1 == 60
