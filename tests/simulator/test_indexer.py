"""The indexer: encoding against the golden messages, behaviour against the truth."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import grpc
import pytest

from shards.adapters.messages import INJECTIVE
from shards.protocol.events import ZERO, BookUpdate, Trade
from tests.simulator import indexer_proto
from tests.simulator.client import Simulator
from tests.simulator.markets import Kind, SimMarket

SPOT: Any = INJECTIVE.package("injective_spot_exchange_rpc")
DERIVATIVE: Any = INJECTIVE.package("injective_derivative_exchange_rpc")

AAVE = SimMarket(market_id="0xa", ticker="AAVE/USDT", type="spot", kind=Kind("AAVE", 18, 3, 3, 1))
PERP = SimMarket(market_id="0xb", ticker="P", type="derivative", kind=Kind("BTC", 0, 0, 4, 1))
TRADE = Trade(
    "22868_1",
    "sell",
    "10.000000000000000000",
    "1.000000000000000000",
    "-0.010000000000000000",
    "LimitMatchNewOrder",
    "0xa7",
    "0x3d",
    "inj1hk",
    "cid",
    "2.500000000000000000",
    ZERO,
)


def test_a_spot_trade_is_in_token_units() -> None:
    """Golden sample indexer_spot_stream_trades_v2: 10 AAVE/USDT is 0.00000000001 there."""
    raw = indexer_proto.trade_response(AAVE, TRADE, 1_701_978_102_242)
    message = SPOT.StreamTradesV2Response.FromString(raw)
    assert message.operation_type == "insert"
    assert message.timestamp == 1_701_978_103_000
    trade = message.trade
    assert (trade.price.price, trade.price.quantity) == ("0.00000000001", "1000000000000000000")
    assert (trade.fee, trade.trade_direction, trade.execution_side) == ("-10000", "sell", "taker")
    assert trade.trade_execution_type == "limitMatchNewOrder"
    assert trade.executed_at == trade.price.timestamp == 1_701_978_102_242


def test_a_derivative_trade_has_human_quantities() -> None:
    """Golden sample indexer_derivative_stream_trades_v2: price 10 is 10000000, quantity 1 is 1."""
    raw = indexer_proto.trade_response(PERP, TRADE, 1_701_979_920_875)
    trade = DERIVATIVE.StreamTradesV2Response.FromString(raw).trade
    delta = trade.position_delta
    assert (delta.execution_price, delta.execution_quantity) == ("10000000", "1")
    assert (delta.execution_margin, trade.payout, trade.fee) == ("2500000", "0", "-10000")


def test_a_level_of_quantity_zero_is_inactive() -> None:
    update = BookUpdate("0xa", 7, [("10.000000000000000000", ZERO)], [("11.000000000000000000", "2.000000000000000000")])  # fmt: skip
    raw = indexer_proto.orderbook_update(AAVE, update, 1_702_044_336_800, indexer_proto.Levels())
    message = SPOT.StreamOrderbookUpdateResponse.FromString(raw)
    levels = message.orderbook_level_updates
    assert (message.market_id, message.operation_type, levels.sequence) == ("0xa", "update", 7)
    assert [(level.price, level.is_active) for level in levels.buys] == [("0.00000000001", False)]
    assert [(level.quantity, level.is_active) for level in levels.sells] == [
        ("2000000000000000000", True)
    ]
    assert levels.updated_at == levels.buys[0].timestamp == 1_702_044_336_800
    assert message.timestamp % 1_000 == 0


@pytest.fixture
def spot(healthy: Simulator) -> Iterator[Any]:
    """A stub of the spot service."""
    with grpc.insecure_channel(healthy.indexer) as channel:
        yield INJECTIVE.stub("injective_spot_exchange_rpc.InjectiveSpotExchangeRPC", channel)


@pytest.fixture
def derivative(healthy: Simulator) -> Iterator[Any]:
    """A stub of the derivative service."""
    with grpc.insecure_channel(healthy.indexer) as channel:
        yield INJECTIVE.stub(
            "injective_derivative_exchange_rpc.InjectiveDerivativeExchangeRPC", channel
        )


def test_an_update_follows_the_book_that_was_asked_for(spot: Any, healthy: Simulator) -> None:
    call = spot.StreamOrderbookUpdate(SPOT.StreamOrderbookUpdateRequest(), timeout=60)
    first = next(call)
    market_id = first.market_id
    book = spot.OrderbooksV2(SPOT.OrderbooksV2Request(market_ids=[market_id]), timeout=30)
    sequence = book.orderbooks[0].orderbook.sequence
    assert sequence >= first.orderbook_level_updates.sequence
    seen = first.orderbook_level_updates.sequence
    while seen <= sequence:
        update = next(call).orderbook_level_updates
        if update.market_id == market_id:
            assert update.sequence == seen + 1
            seen = update.sequence
    call.cancel()


def test_a_whole_book_is_the_true_one_in_token_units(spot: Any, healthy: Simulator) -> None:
    market = next(m for m in healthy.markets if m["type"] == "spot" and not m["quiet"])
    info = next(
        m
        for m in spot.Markets(SPOT.MarketsRequest(), timeout=30).markets
        if m.market_id == market["market_id"]
    )
    request = SPOT.OrderbookV2Request(market_id=info.market_id, depth=0)
    book = spot.OrderbookV2(request, timeout=30).orderbook
    truth = healthy.book(info.market_id, book.height)
    base, quote = info.base_token_meta.decimals, info.quote_token_meta.decimals
    assert book.sequence == truth.sequence
    assert [
        (Decimal(level.price).scaleb(base - quote), Decimal(level.quantity).scaleb(-base))
        for level in book.buys
    ] == [(Decimal(price), Decimal(quantity)) for price, quantity in truth.bids]


def test_past_trades_can_be_paged_and_bounded_by_time(spot: Any, healthy: Simulator) -> None:
    healthy.await_height(1_030)
    whole = spot.TradesV2(SPOT.TradesV2Request(limit=10_000), timeout=30)
    ids = [trade.trade_id for trade in whole.trades]
    assert whole.paging.total >= len(ids) > 4
    assert ids == sorted(ids, key=lambda i: [int(n) for n in i.split("_")], reverse=True)
    newest, middle = whole.trades[0].executed_at, whole.trades[len(ids) // 2].executed_at
    request = SPOT.TradesV2Request(start_time=middle, end_time=newest, limit=3, skip=1)
    page = spot.TradesV2(request, timeout=30)
    assert [trade.trade_id for trade in page.trades] == ids[1:4]
    assert (getattr(page.paging, "from"), page.paging.to) == (2, 4)


def test_streamed_trades_are_the_true_ones(derivative: Any, healthy: Simulator) -> None:
    call = derivative.StreamTradesV2(DERIVATIVE.StreamTradesV2Request(), timeout=30)
    for _ in range(6):
        trade = next(call).trade
        height = int(trade.trade_id.partition("_")[0])
        truth = {t.trade_id: (m, t) for m, t in healthy.block(height).trades}
        market_id, real = truth[trade.trade_id]
        assert market_id == trade.market_id
        price = Decimal(trade.position_delta.execution_price).scaleb(-6)
        assert price == Decimal(real.price)
        assert trade.position_delta.trade_direction == real.side
    call.cancel()


def test_a_quiet_market_sends_nothing_not_even_headers(spot: Any, healthy: Simulator) -> None:
    quiet = next(m for m in healthy.markets if m["quiet"] and m["type"] == "spot")
    request = SPOT.StreamOrderbookUpdateRequest(market_ids=[quiet["market_id"]])
    with pytest.raises(grpc.RpcError) as caught:
        next(spot.StreamOrderbookUpdate(request, timeout=1))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_markets_are_found_by_status_in_lower_case(spot: Any, derivative: Any) -> None:
    active = spot.Markets(SPOT.MarketsRequest(market_status="active"), timeout=30).markets
    assert active
    assert not spot.Markets(SPOT.MarketsRequest(market_status="Active"), timeout=30).markets
    request = DERIVATIVE.BinaryOptionsMarketsRequest(limit=1)
    binaries = derivative.BinaryOptionsMarkets(request, timeout=30)
    assert len(binaries.markets) == 1
    assert binaries.paging.total == 2
