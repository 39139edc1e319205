"""Orders and oracle prices: the stream on both transports and the block's events tell the same."""

import base64
import json
from collections import Counter
from typing import Any

import pytest

from shards.adapters.injective_chain import (
    block_results,
    grpc_decoder,
    ws_decoder,
    ws_extras_decoder,
)
from shards.adapters.messages import INJECTIVE
from shards.core.block_slices import split
from shards.protocol.events import Block, OptionalEvents, Order, Price
from tests.shards import golden

STREAM: Any = INJECTIVE.package("injective.stream.v2")
HASH = "Cf8fZTGWhOKTTVI5sis6EtBoqiRIxqTBo7Wce23qm8U="
HEXADECIMAL = "0x" + base64.b64decode(HASH).hex()


def streamed(line: dict[str, Any]) -> Block:
    block = ws_extras_decoder.decode(line["ws"].encode())[1]
    assert isinstance(block, Block)
    return block


def extras_of(line: dict[str, Any]) -> OptionalEvents:
    extras = streamed(line).extras
    assert extras is not None
    return extras


@pytest.mark.parametrize("line", golden.orders(), ids=lambda line: str(line["height"]))
def test_all_three_forms_of_a_block_give_the_same(line: dict[str, Any]) -> None:
    stream = streamed(line)
    decoder = grpc_decoder.StreamDecoder(STREAM.StreamResponse.FromString)
    assert decoder.decode(base64.b64decode(line["grpc_b64"]))[1].extras == stream.extras
    answer = golden.block_results(line)
    assert block_results.decode(answer, 0, with_extras=True).extras == stream.extras
    assert block_results.decode(answer, 0).extras is None


def test_they_are_what_plain_json_reads() -> None:
    for line in golden.orders():
        said = json.loads(line["ws"])["result"]
        rows = [*said.get("spot_orders", ()), *said.get("derivative_orders", ())]
        extras = extras_of(line)
        assert Counter(o.order_hash for _, o in extras.orders) == Counter(
            row["order_hash"] for row in rows
        )
        prices = [(p["symbol"], p["type"], p["price"]) for p in said.get("oracle_prices", ())]
        assert [(symbol, p.type, p.price) for symbol, p in extras.prices] == prices


def test_the_recording_has_every_status_side_and_kind_of_market() -> None:
    orders = [order for line in golden.orders() for _, order in extras_of(line).orders]
    assert {order.status for order in orders} == {"booked", "matched", "cancelled"}
    assert {order.side for order in orders} == {"buy", "sell"}
    assert {bool(order.margin) for order in orders} == {True, False}
    assert all(
        (o.fillable == o.quantity) == (o.status == "booked")
        for o in orders
        if o.status != "cancelled"
    )
    assert any(extras_of(line).prices for line in golden.orders())


def test_books_and_trades_do_not_depend_on_what_else_was_asked_for() -> None:
    for line in golden.orders():
        block, plain = streamed(line), ws_decoder.decode(line["ws"].encode())[1]
        assert isinstance(plain, Block)
        assert (plain.trades, plain.updates) == (block.trades, block.updates)
        assert plain.extras is None


def test_orders_are_parted_by_market_and_prices_go_to_the_chain() -> None:
    line = next(line for line in golden.orders() if extras_of(line).prices)
    block = streamed(line)
    parts = split(block)
    assert parts["chain"].extras == OptionalEvents(prices=extras_of(line).prices)
    for market_id, part in parts.items():
        told = part.extras.orders if part.extras else []
        assert told == [pair for pair in extras_of(line).orders if pair[0] == market_id]


# ---- events of other oracles, and of conditional orders: written by hand -------------------


def replayed(kind: str, **attributes: object) -> OptionalEvents | None:
    """Read one event as ``block_results`` has it."""
    pairs = [{"key": key, "value": json.dumps(value)} for key, value in attributes.items()]
    event = {"type": kind, "attributes": [*pairs, {"key": "mode", "value": "BeginBlock"}]}
    result = {"height": "7", "finalize_block_events": [event]}
    answer = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()
    return block_results.decode(answer, 0, with_extras=True).extras


@pytest.mark.parametrize(
    ("event", "attributes", "prices"),
    [
        (
            "SetProviderPriceEvent",
            {"provider": "p", "relayer": "inj1", "symbol": "BTC", "price": "1.0"},
            [("BTC", Price("provider", "1.0"))],
        ),
        (
            "SetCoinbasePriceEvent",
            {"symbol": "BTC", "price": "1.0", "timestamp": "1"},
            [("BTC", Price("coinbase", "1.0"))],
        ),
        (
            "SetBandIBCPriceEvent",
            {"symbols": ["BTC", "ETH"], "prices": ["1.0", "2.0"], "relayer": "inj1"},
            [("BTC", Price("bandibc", "1.0")), ("ETH", Price("bandibc", "2.0"))],
        ),
        (
            "EventSetPythPrices",
            {
                "prices": [
                    {"price_id": "0xfeed", "ema_price": "1.0", "price_state": {"price": "2.0"}}
                ]
            },
            [("0xfeed", Price("pyth", "1.0"))],
        ),
        (
            "EventSetStorkPrices",
            {"prices": [{"symbol": "BTCUSD", "price_state": {"price": "2.0"}}]},
            [("BTCUSD", Price("stork", "2.0"))],
        ),
    ],
)
def test_each_oracles_event_is_read_as_the_stream_reads_it(
    event: str, attributes: dict[str, object], prices: list[tuple[str, Price]]
) -> None:
    """As ``handlers.go`` of the node's stream server does (v1.17.2)."""
    extras = replayed(f"injective.oracle.v1beta1.{event}", **attributes)
    assert extras == OptionalEvents(prices=prices)


def test_a_conditional_order_is_booked_with_its_trigger() -> None:
    info = {"price": "9.0", "quantity": "2.0", "subaccount_id": "0xs", "fee_recipient": "inj1"}
    said = {"order_info": info, "order_type": "STOP_SELL", "margin": "1.0", "trigger_price": "8.0"}
    event = "injective.exchange.v2.EventNewConditionalDerivativeOrder"
    extras = replayed(event, market_id="0xm", order=said, hash=HASH, is_market=False)
    order = Order(
        *(HEXADECIMAL, "booked", "sell", "STOP_SELL", "9.0", "2.0", "2.0", "0xs", "inj1"),
        *("", "8.0", "1.0"),
    )
    assert extras == OptionalEvents(orders=[("0xm", order)])


def test_a_cancelled_market_order_is_no_resting_order() -> None:
    event = "injective.exchange.v2.EventCancelDerivativeOrder"
    assert replayed(event, market_id="0xm", limit_order=None, market_order_cancel={}) is None
