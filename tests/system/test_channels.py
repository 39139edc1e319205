"""
Every channel against an independent question to the real node: what is published is so.

The answers are read here by plain arithmetic, not by the collector's decoders. While the
frames are gathered every shard is killed once, and then the aggregator: whoever takes up
after them has to make up for it.
"""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest

from collector import Lost, Subscriber
from collector.devnet.protos import PROTOS
from shards.protocol.channels import OFFERED
from shards.protocol.events import Funding, Gap, Metadata, Oracle, Orders, Pulse, Ticker, Trades
from tests.system.running import Devnet, collector, eventually

pytestmark = pytest.mark.node

CHANNELS = [part for channel in OFFERED for part in ("--channel", channel.name)]
SETTLED_S = 4.0
"""After everyone is well again: subscribers ask once a second how far that is."""
RECOVERED_S = 60.0
_T = TypeVar("_T")


def scaled(text: str) -> str:
    """An amount as the node's queries spell it: times ten to the eighteenth."""
    return str(int(Decimal(text).scaleb(18)))


class Chain:
    """Questions to the node, each at a height."""

    def __init__(self, grpc_endpoint: str, rpc: str) -> None:
        self._channel = grpc.insecure_channel(grpc_endpoint)
        self._rpc = rpc
        self._query: dict[str, Any] = {
            name: PROTOS.package(f"injective.{name}") for name in ("exchange.v2", "oracle.v1beta1")
        }
        self._stubs: dict[str, Any] = {
            name: PROTOS.stub(f"injective.{name}.Query", self._channel) for name in self._query
        }

    def ask(self, module: str, method: str, height: int, **fields: object) -> Any:
        # The requests are named after their calls, but for these.
        name = {
            "L3SpotOrderBook": "QueryFullSpotOrderbookRequest",
            "L3DerivativeOrderBook": "QueryFullDerivativeOrderbookRequest",
        }.get(method, f"Query{method}Request")
        request = getattr(self._query[module], name)(**fields)
        pinned = (("x-cosmos-block-height", str(height)),)
        call = getattr(self._stubs[module], method)

        def answer() -> Any:
            try:
                return call(request, metadata=pinned, timeout=30)
            except grpc.RpcError as error:
                # The node streams a block's events a moment before it answers for the block.
                if "height in the future" not in error.details():
                    raise
            return None

        return eventually(answer, within_s=30, what=f"block {height}")

    def block_time_ms(self, height: int) -> int:
        with urllib.request.urlopen(f"{self._rpc}/header?height={height}", timeout=30) as answer:
            text = json.load(answer)["result"]["header"]["time"]
        seconds, _, fraction = text.rstrip("Z").partition(".")
        whole = int(datetime.fromisoformat(f"{seconds}+00:00").timestamp())
        return whole * 1000 + int(fraction[:3].ljust(3, "0"))


class Published:
    """What one subscriber of everything was handed."""

    def __init__(self, events: list[tuple[str, Any]]) -> None:
        self._events = events

    def of(self, kind: type[_T], symbol: str = "") -> list[_T]:
        return [
            event
            for topic, event in self._events
            if isinstance(event, kind) and (not symbol or topic.endswith(f".{symbol}."))
        ]

    def by_topic(self, kind: type[_T]) -> list[tuple[str, _T]]:
        return [(topic, event) for topic, event in self._events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def published(node: Devnet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    folder: Path = tmp_path_factory.mktemp("channels")
    config = str(node.config(folder))
    with collector(folder, "--config", config, "--shards", "2", *CHANNELS) as running:
        running.await_live()
        events: list[tuple[str, Any]] = []
        with Subscriber(running.publish) as subscriber:

            def gather(seconds: float) -> None:
                deadline = time.monotonic() + seconds
                while time.monotonic() < deadline:
                    if (one := subscriber.poll(0.1)) is not None:
                        events.append((one.topic, one.event))

            gather(SETTLED_S)
            for victims in (("shard 0", "shard 1"), ("aggregator",)):
                for pid in [running.pid(name) for name in victims]:
                    os.kill(pid, signal.SIGKILL)
                deadline = time.monotonic() + RECOVERED_S
                gather(1.0)
                while not running.live():
                    assert time.monotonic() < deadline, running.log
                    gather(0.2)
                gather(SETTLED_S)
        yield Published(events)


@pytest.fixture(scope="module")
def chain(node: Devnet) -> Chain:
    return Chain(node.grpc, node.rpc)


def test_nothing_was_lost_although_everyone_was_killed(published: Published) -> None:
    assert published.by_topic(Lost) == []
    causes = {gap.cause for gap in published.of(Gap)}
    assert "crash" in causes
    told = published.by_topic(Gap)
    for topic in {topic for topic, _ in told}:
        assert [gap.state for name, gap in told if name == topic][-1] == "closed", topic


def test_blocks_are_the_chains_with_their_times(published: Published, chain: Chain) -> None:
    pulses = published.of(Pulse)
    heights = [pulse.height for pulse in pulses]
    assert heights == list(range(heights[0], heights[0] + len(heights)))
    assert len(heights) > 5
    last = pulses[-1]
    assert last.ts_event == chain.block_time_ms(last.height) * 1_000_000


def test_the_newest_oracle_price_of_a_block_is_the_oracles(
    published: Published, chain: Chain
) -> None:
    told = published.of(Oracle)
    assert len(told) > 2
    for event in told[-6:]:
        answer = chain.ask("oracle.v1beta1", "PriceFeedPriceStates", event.height)
        [state] = [state for state in answer.price_states if state.base == event.symbol]
        price = event.prices[-1]
        assert (price.type, scaled(price.price)) == ("pricefeed", state.price_state.price)


def test_funding_is_the_markets_state_at_its_height(published: Published, chain: Chain) -> None:
    told = published.of(Funding)
    assert len({event.market_id for event in told}) == 4
    for event in told[-6:]:
        state = chain.ask(
            "exchange.v2", "PerpetualMarketFunding", event.height, market_id=event.market_id
        ).state
        assert (scaled(event.cumulative_funding), scaled(event.cumulative_price)) == (
            state.cumulative_funding or "0",
            state.cumulative_price or "0",
        )
        assert event.last_timestamp == state.last_timestamp
        assert event.next_funding_timestamp > event.last_timestamp
        assert Decimal(event.mark_price) > 0


def test_metadata_is_the_chains_listing(published: Published, chain: Chain, node: Devnet) -> None:
    told = {event.market_id: event for event in published.of(Metadata)}
    spot = chain.ask("exchange.v2", "SpotMarkets", 0).markets
    perps = [full.market for full in chain.ask("exchange.v2", "DerivativeMarkets", 0).markets]
    assert told.keys() == {market.market_id for market in [*spot, *perps]}
    for market in [*spot, *perps]:
        event = told[market.market_id]
        assert (event.ticker, event.status) == (market.ticker, "Active")
        assert scaled(event.price_tick) == market.min_price_tick_size
        assert scaled(event.quantity_tick) == market.min_quantity_tick_size
        assert scaled(event.min_notional) == (market.min_notional or "0")
        assert scaled(event.taker_fee_rate) == market.taker_fee_rate
        assert scaled(event.maker_fee_rate) == market.maker_fee_rate
        assert event.quote_denom == market.quote_denom
        assert event.quote_decimals == market.quote_decimals
    for market in perps:
        assert told[market.market_id].oracle_base == market.oracle_base
        assert told[market.market_id].oracle_type == "PriceFeed"


Resting = dict[str, tuple[str, int]]
"""By hash: price, and the quantity as it was placed, in the node's numbers."""
Levels = dict[str, int]


def l3(chain: Chain, kind: str, market_id: str, height: int) -> Resting:
    """
    All orders that rest in a book.

    This query names the quantity that was placed, not the rest.
    """
    book = chain.ask("exchange.v2", f"L3{kind}OrderBook", height, market_id=market_id)
    return {row.order_hash: (row.price, int(row.quantity)) for row in [*book.Bids, *book.Asks]}


def l2(chain: Chain, kind: str, market_id: str, height: int) -> Levels:
    buys, sells = _book(chain, kind, market_id, height)
    return {level.p: int(level.q) for level in [*buys, *sells]}


def follow(
    resting: Resting, levels: Levels, updates: list[Orders], fills: list[Trades], last: int
) -> None:
    """Carry the orders that rest, and the book that they are, on to the height `last`."""
    told = {event.height: event.orders for event in updates}
    traded = {event.height: event.trades for event in fills}
    for height in sorted(h for h in told.keys() | traded.keys() if h <= last):
        block = told.get(height, [])
        for order in block:
            # One that came and went within a block never rested.
            if order.status == "cancelled" and order.order_hash in resting:
                price, _ = resting.pop(order.order_hash)
                levels[price] -= int(scaled(order.fillable))
        for trade in traded.get(height, []):
            # For an order that is new in this block, the update has the remaining quantity.
            if trade.order_hash in resting:
                levels[resting[trade.order_hash][0]] -= int(scaled(trade.quantity))
        for order in block:
            if order.status != "cancelled":
                price = scaled(order.price)
                resting[order.order_hash] = price, int(scaled(order.quantity))
                levels[price] = levels.get(price, 0) + int(scaled(order.fillable))


@pytest.mark.parametrize("kind", ["Spot", "Derivative"])
def test_orders_and_fills_carry_one_book_to_another_in_both_its_forms(
    published: Published, chain: Chain, node: Devnet, kind: str
) -> None:
    type_ = "spot" if kind == "Spot" else "derivative"
    seen = set()
    for market in [m for m in node.markets if m["type"] == type_ and not m["quiet"]][:3]:
        market_id, symbol = market["market_id"], _symbol(market["ticker"])
        updates, fills = published.of(Orders, symbol), published.of(Trades, symbol)
        # The first block may have come before all topics were joined.
        # Nor may all topics have brought the last ones yet.
        first, last = published.of(Pulse)[2].height, published.of(Pulse)[-4].height
        resting, levels = l3(chain, kind, market_id, first), l2(chain, kind, market_id, first)
        since = [event for event in updates if event.height > first]
        follow(resting, levels, since, [e for e in fills if e.height > first], last)
        assert {price: left for price, left in levels.items() if left} == l2(
            chain, kind, market_id, last
        )
        # Orders that were filled whole rest no more; that no update tells.
        left = l3(chain, kind, market_id, last)
        assert left.items() <= resting.items()
        filled = {trade.order_hash for event in fills for trade in event.trades}
        assert resting.keys() - left.keys() <= filled
        _check_ticker(chain, kind, market_id, last, published.of(Ticker, symbol))
        seen |= {order.status for event in since for order in event.orders}
    assert seen >= {"booked", "cancelled"}


def _book(chain: Chain, kind: str, market_id: str, height: int) -> tuple[Any, Any]:
    book = chain.ask("exchange.v2", f"{kind}Orderbook", height, market_id=market_id, limit=100_000)
    return book.buys_price_level, book.sells_price_level


def _check_ticker(
    chain: Chain, kind: str, market_id: str, height: int, tickers: list[Ticker]
) -> None:
    newest = [event for event in tickers if event.height <= height][-1]
    buys, sells = _book(chain, kind, market_id, height)
    best: Callable[[Any], int] = lambda level: int(level.p)  # noqa: E731
    bid, ask = max(buys, key=best), min(sells, key=best)
    assert (scaled(newest.bid_price), scaled(newest.bid_quantity)) == (bid.p, bid.q)
    assert (scaled(newest.ask_price), scaled(newest.ask_quantity)) == (ask.p, ask.q)


def _symbol(ticker: str) -> str:
    return ticker.replace("/", "-").replace(" ", "-")
