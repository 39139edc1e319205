"""The flow of orders, without a chain: it grows books, crosses them, and comes to every market."""

from collections import Counter

from collector.devnet.flow import LEVELS, Flow
from collector.devnet.trading import PLANS, Plan

MAKERS, TAKERS = 4, 2


def flow(markets: int, plan: Plan = PLANS["normal"], seed: int = 1) -> Flow:
    return Flow([2000] * markets, plan, makers=MAKERS, takers=TAKERS, seed=seed)


def test_same_seed_gives_the_same_steps():
    one, other = flow(20, seed=3), flow(20, seed=3)
    assert [one.step() for _ in range(50)] == [other.step() for _ in range(50)]
    assert flow(20, seed=3).step() != flow(20, seed=4).step()


def test_books_grow_to_full_depth_and_stay_uncrossed():
    trading = flow(4)
    resting: dict[str, tuple[int, bool, int]] = {}
    for _ in range(60):
        for batch in trading.step()[:MAKERS]:
            for cancel in batch.cancels:
                assert resting.pop(cancel.cid)[0] == cancel.market
            for order in batch.orders:
                resting[order.cid] = (order.market, order.is_buy, order.price)
    for market in range(4):
        bids = [price for m, is_buy, price in resting.values() if m == market and is_buy]
        asks = [price for m, is_buy, price in resting.values() if m == market and not is_buy]
        assert min(len(bids), len(asks)) >= LEVELS - 8
        assert max(bids) < min(asks)


def test_every_market_is_crossed_within_two_turns():
    plan = Plan(markets_per_block=16, orders_per_block=80, cross=0.1)
    trading = flow(280, plan)
    crossed = Counter[int]()
    for _ in range(2 * -(-280 // plan.markets_per_block) + 1):
        for batch in trading.step()[MAKERS:]:
            crossed.update(order.market for order in batch.orders)
    assert set(crossed) == set(range(280))


def test_a_taker_reaches_through_the_middle():
    trading = flow(1)
    orders = [o for _ in range(40) for b in trading.step()[MAKERS:] for o in b.orders]
    assert {order.kind for order in orders} == {"limit", "market"}
    assert {order.is_buy for order in orders} == {True, False}


def test_a_forgotten_batch_has_its_markets_cleared_and_quoted_anew():
    trading = flow(1)
    for _ in range(30):
        first = trading.step()[0]
    trading.forget(first)
    again = trading.step()[0]
    assert again.clears == [0]
    assert not again.cancels, "a cancel names an order that the clearing has taken already"
    assert len(again.orders) > 2 * len(first.orders)
    assert trading.step()[0].clears == []


def test_no_market_at_all_is_fine():
    assert not any(any(batch) for batch in flow(0).step())
