"""Lost blocks rebuilt from the node's record, against the stream's own words."""

import base64
import json
from collections.abc import Callable
from typing import Any

import bech32
import pytest

from shards.adapters.injective_chain import block_results, ws_decoder
from shards.protocol.errors import DecodeError
from shards.protocol.events import ZERO, Block, BookUpdate
from tests.shards import golden

TIME = 1_795_342_258_619_000_000


def streamed(line: dict[str, Any]) -> Block:
    block = ws_decoder.decode(line["ws"].encode())[1]
    assert isinstance(block, Block)
    return block


def in_order(updates: list[BookUpdate]) -> list[BookUpdate]:
    """The stream's order of markets is random."""
    return sorted(updates, key=lambda update: update.market_id)


def test_every_recorded_block_is_rebuilt_exactly_as_it_was_streamed() -> None:
    trades = updates = 0
    for line in golden.blocks():
        stream = streamed(line)
        replay = block_results.decode(golden.block_results(line), stream.ts_event)
        assert (replay.height, replay.ts_event) == (stream.height, stream.ts_event)
        assert replay.trades == stream.trades
        assert in_order(replay.updates) == in_order(stream.updates)
        trades += len(replay.trades)
        updates += len(replay.updates)
    assert (trades, updates) == (23, 266)


def test_every_recorded_block_is_rebuilt_as_plain_json_reads_the_events() -> None:
    for line in golden.blocks():
        replay = block_results.decode(golden.block_results(line), 0)
        rows = plain_trades(line)
        assert [(m, t.trade_id, t.side, t.price, t.order_hash) for m, t in replay.trades] == rows
        assert in_order(replay.updates) == in_order(plain_updates(line))


def attributes_of(event: dict[str, Any]) -> dict[str, Any]:
    return {a["key"]: json.loads(a["value"]) for a in event["attributes"] if a["key"] != "mode"}


def plain_trades(line: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    rows: list[tuple[str, str, str, str, str]] = []
    for event in line["block_results_events"]:
        said = attributes_of(event)
        for fill in said.get("trades") or ():
            price = (fill.get("position_delta") or {}).get("execution_price") or fill["price"]
            side = "buy" if said.get("is_buy") else "sell"
            order_hash = golden.hexadecimal(fill["order_hash"])
            trade_id = f"{line['height']}_{len(rows)}"
            rows.append((said["market_id"], trade_id, side, price, order_hash))
    return rows


def plain_updates(line: dict[str, Any]) -> list[BookUpdate]:
    updates = []
    for event in line["block_results_events"]:
        said = attributes_of(event)
        for row in (said.get("spot_updates") or []) + (said.get("derivative_updates") or []):
            book = row["orderbook"]
            sides = [
                [(level["p"], level["q"]) for level in book.get(side) or ()]
                for side in ("buy_levels", "sell_levels")
            ]
            market_id = golden.hexadecimal(book["market_id"])
            updates.append(BookUpdate(market_id, int(row["seq"]), *sides))
    return updates


# ---- the rules of the format, on events made by hand -----------------------------------

SPOT = "injective.exchange.v2.EventBatchSpotExecution"
BOOKS = "injective.exchange.v2.EventOrderbookUpdate"


def execution(market_id: str, quantity: str, *, kind: str = SPOT, mode: str = "") -> dict[str, Any]:
    """One batch execution with one fill, told apart by its quantity."""
    attributes = [
        {"key": "market_id", "value": json.dumps(market_id)},
        {"key": "trades", "value": json.dumps([{"quantity": quantity, "price": "2"}])},
    ]
    if mode:
        attributes.append({"key": "mode", "value": mode})
    return {"type": kind, "attributes": attributes}


def books(**lists: str) -> dict[str, Any]:
    """An order-book event with raw attribute texts."""
    attributes = {"spot_updates": "[]", "derivative_updates": "[]"} | lists
    return {
        "type": BOOKS,
        "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
    }


def answer(
    finalize: list[Any] | None = None, transactions: list[Any] | None = None, height: object = "9"
) -> bytes:
    result = {
        "height": height,
        "finalize_block_events": finalize,
        "txs_results": transactions,
    }
    return json.dumps({"jsonrpc": "2.0", "id": -1, "result": result}).encode()


def test_trades_are_numbered_as_published_begin_then_transactions_then_end() -> None:
    finalize = [
        execution("0xa", "4", mode="EndBlock"),
        execution("0xa", "1", mode="BeginBlock"),
        execution("0xb", "5", mode="EndBlock"),
    ]
    transactions = [
        {"events": [execution("0xb", "2")]},
        {"events": None},
        {"events": [{"type": "message", "attributes": []}, execution("0xa", "3")]},
    ]
    block = block_results.decode(answer(finalize, transactions), TIME)
    assert [(t.trade_id, t.quantity) for _, t in block.trades] == [
        (f"9_{n}", str(n + 1)) for n in range(5)
    ]
    assert [market_id for market_id, _ in block.trades] == ["0xa", "0xb", "0xa", "0xa", "0xb"]


def test_the_older_twin_of_an_event_is_not_counted() -> None:
    twin = execution("0xa", "1", kind="injective.exchange.v1beta1.EventBatchSpotExecution")
    block = block_results.decode(answer([twin, execution("0xa", "1"), twin]), TIME)
    assert [trade.trade_id for _, trade in block.trades] == ["9_0"]


@pytest.mark.parametrize("nothing", ["null", "[]"])
def test_null_and_empty_lists_are_the_same(nothing: str) -> None:
    event = books(spot_updates=nothing, derivative_updates=nothing)
    trades = {
        "type": SPOT,
        "attributes": [
            {"key": "market_id", "value": '"0xa"'},
            {"key": "trades", "value": nothing},
        ],
    }
    assert block_results.decode(answer([event, trades]), TIME) == Block(9, TIME, [], [])


def test_a_block_without_any_event_is_empty() -> None:
    assert block_results.decode(answer(), TIME) == Block(9, TIME, [], [])
    assert block_results.decode(answer([], [], height=9), TIME) == Block(9, TIME, [], [])


@pytest.mark.parametrize(("value", "side"), [(None, "sell"), ("false", "sell"), ("true", "buy")])
def test_an_execution_that_does_not_say_is_a_sell(value: str | None, side: str) -> None:
    event = execution("0xa", "1")
    if value is not None:
        event["attributes"].append({"key": "is_buy", "value": value})
    ((_, trade),) = block_results.decode(answer([event]), TIME).trades
    assert trade.side == side


def test_bytes_are_spelled_as_the_stream_spells_them() -> None:
    fill = {
        "subaccount_id": base64.b64encode(b"\x01" * 32).decode(),
        "order_hash": base64.b64encode(b"\xab" * 32).decode(),
        "fee_recipient_address": base64.b64encode(bytes(range(20))).decode(),
        "position_delta": {"execution_price": "3", "execution_quantity": "4"},
        "payout": "5",
        "cid": "mine",
    }
    event = execution("0xa", "1", kind=SPOT.replace("Spot", "Derivative"))
    event["attributes"][1]["value"] = json.dumps([fill])
    ((_, trade),) = block_results.decode(answer([event]), TIME).trades
    assert trade.order_hash == "0x" + "ab" * 32
    assert trade.subaccount_id == "0x" + "01" * 32
    prefix, words = bech32.bech32_decode(trade.fee_recipient)
    assert prefix == "inj"
    assert words is not None
    assert bech32.convertbits(words, 5, 8, False) == list(range(20))
    assert (trade.price, trade.quantity, trade.margin, trade.payout) == ("3", "4", ZERO, "5")
    assert (trade.cid, trade.side, trade.fee) == ("mine", "sell", ZERO)


WRONG: dict[str, Callable[[], bytes]] = {
    "an error": lambda: b'{"error":{"code":-32603,"message":"Internal","data":"height 3 is gone"}}',
    "no result": lambda: b'{"jsonrpc":"2.0"}',
    "no JSON": lambda: b"<html>502</html>",
    "no height": lambda: b'{"result":{}}',
    "a height of zero": lambda: answer(height="0"),
    "a market id that is not JSON": lambda: answer(
        [{"type": SPOT, "attributes": [{"key": "market_id", "value": "0xa"}]}]
    ),
    "an execution without a market": lambda: answer([{"type": SPOT, "attributes": []}]),
    "books without one of the lists": lambda: answer([{"type": BOOKS, "attributes": []}]),
    "a hash that is not base64": lambda: answer(
        [books(spot_updates='[{"orderbook":{"market_id":"x"}}]')]
    ),
    "lists in lists without end": lambda: b'{"x":' + b"[" * 100_000,
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_of_the_format_is_a_decode_error(name: str) -> None:
    with pytest.raises(DecodeError):
        block_results.decode(WRONG[name](), TIME)


def test_the_nodes_reason_is_passed_on() -> None:
    with pytest.raises(DecodeError, match="Internal height 3 is gone"):
        block_results.decode(WRONG["an error"](), TIME)
