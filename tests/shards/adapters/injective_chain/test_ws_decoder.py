"""The node's WebSocket messages: recorded ones, and every rule of their encoding."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from shards.adapters.injective_chain import ws_decoder
from shards.protocol.errors import DecodeError
from shards.protocol.events import ZERO, Block, BookUpdate, Confirmed, Level, Rejected
from tests.shards import golden


def decoded(payload: str | bytes | dict[str, Any]) -> Block:
    """Decode what must be a block."""
    if isinstance(payload, dict):
        payload = json.dumps(payload)
    block = ws_decoder.decode(payload.encode() if isinstance(payload, str) else payload)[1]
    assert isinstance(block, Block)
    return block


def levels(rows: list[dict[str, str]] | None) -> list[Level]:
    return [(row["p"], row["q"]) for row in rows or ()]


def updates_of(result: dict[str, Any]) -> list[BookUpdate]:
    """Read a block's book updates by plain json, spot before derivatives."""
    rows = []
    for kind in ("spot", "derivative"):
        for row in result.get(f"{kind}_orderbook_updates") or ():
            book = row["orderbook"]
            buys, sells = levels(book.get("buy_levels")), levels(book.get("sell_levels"))
            rows.append(BookUpdate(book["market_id"], int(row["seq"]), buys, sells))
    return rows


def trades_of(result: dict[str, Any]) -> list[dict[str, str]]:
    """Read a block's trades by plain json, as rows of texts in the chain's order."""
    rows = []
    for trade in (result.get("spot_trades") or []) + (result.get("derivative_trades") or []):
        delta = trade.get("position_delta")
        rows.append(
            {
                "market_id": trade["market_id"],
                "trade_id": trade["trade_id"],
                "side": "buy" if trade.get("is_buy") else "sell",
                "price": delta["execution_price"] if delta else trade["price"],
                "quantity": delta["execution_quantity"] if delta else trade["quantity"],
                "fee": trade["fee"],
                "execution_type": trade["executionType"],
                "order_hash": trade["order_hash"],
                "subaccount_id": trade["subaccount_id"],
                "fee_recipient": trade["fee_recipient_address"],
                "cid": trade.get("cid", ""),
                "margin": delta["execution_margin"] if delta else "",
                "payout": trade["payout"] if delta else "",
            }
        )
    return sorted(rows, key=lambda row: int(row["trade_id"].split("_")[1]))


def test_every_recorded_block_is_decoded_as_plain_json_reads_it() -> None:
    trades = updates = 0
    for line in golden.blocks():
        result = json.loads(line["ws"])["result"]
        block = decoded(line["ws"])
        assert block.height == int(result["block_height"]) == line["height"]
        assert block.ts_event == int(result["block_time"]) * 1_000_000
        assert block.updates == updates_of(result)
        fields = (
            [name for name in trades_of(result)[0] if name != "market_id"] if block.trades else []
        )
        rows = [{"market_id": m} | {f: getattr(t, f) for f in fields} for m, t in block.trades]
        assert rows == trades_of(result)
        trades += len(rows)
        updates += len(block.updates)
    assert (len(golden.blocks()), trades, updates) == (63, 23, 266)


def test_recorded_heights_are_contiguous_and_so_are_the_sequences_of_each_market() -> None:
    blocks = [decoded(line["ws"]) for line in golden.blocks()]
    first = blocks[0].height
    assert [block.height for block in blocks] == list(range(first, first + 63))
    sequences: dict[str, list[int]] = {}
    for block in blocks:
        for update in block.updates:
            sequences.setdefault(update.market_id, []).append(update.sequence)
    for run in sequences.values():
        assert run == list(range(run[0], run[0] + len(run)))


def test_books_of_the_nodes_own_fixture_are_decoded() -> None:
    for message in golden.read("ws_stream_messages_books_from_fixture.json"):
        assert decoded(message).updates == updates_of(message["result"])


def test_a_block_may_stand_in_a_memoryview() -> None:
    payload = golden.blocks()[0]["ws"].encode()
    assert ws_decoder.decode(memoryview(payload)) == ws_decoder.decode(payload)


def test_the_documented_empty_block_is_a_block_with_nothing_in_it() -> None:
    block = decoded(golden.read("ws_stream_message_skeleton.json"))
    assert block == Block(12345678, 1702123456789 * 1_000_000, [], [])


@pytest.mark.parametrize("name", ["ws_subscribe_ack", "ws_unsubscribe_ack"])
def test_the_documented_answers_confirm(name: str) -> None:
    answer = golden.read(f"{name}.json")
    assert ws_decoder.decode(json.dumps(answer).encode()) == (answer["id"], Confirmed())


LISTS = [
    f"{kind}_{what}" for kind in ("spot", "derivative") for what in ("trades", "orderbook_updates")
]


def test_missing_null_and_empty_lists_are_the_same() -> None:
    missing = {"id": 1, "result": {"block_height": "5", "block_time": "6"}}
    null = {"id": 1, "result": missing["result"] | dict.fromkeys(LISTS)}  # type: ignore[operator]
    empty = {"id": 1, "result": missing["result"] | {name: [] for name in LISTS}}  # type: ignore[operator]
    assert decoded(missing) == decoded(null) == decoded(empty) == Block(5, 6_000_000, [], [])


@pytest.mark.parametrize("side", ["buy_levels", "sell_levels"])
@pytest.mark.parametrize("absent", ["missing", "null", "empty"])
def test_a_side_without_levels_may_be_missing_null_or_empty(side: str, absent: str) -> None:
    book: dict[str, Any] = {"market_id": "0x1", "buy_levels": [{"p": "1.0"}], "sell_levels": []}
    book[side] = None if absent == "null" else []
    if absent == "missing":
        del book[side]
    update = {"seq": "3", "orderbook": book}
    result = {"block_height": "5", "block_time": "6", "spot_orderbook_updates": [update]}
    (found,) = decoded({"id": 1, "result": result}).updates
    bids = [("1.0", ZERO)] if side == "sell_levels" else []
    assert found == BookUpdate("0x1", 3, bids, [])


def spot(trade_id: str, **more: object) -> dict[str, object]:
    return {"market_id": "0x1", "trade_id": trade_id, "quantity": "1", "price": "2"} | more


def block_of(*trades: dict[str, object]) -> bytes:
    result = {"block_height": "5", "block_time": "6", "spot_trades": list(trades)}
    return json.dumps({"id": 1, "result": result}).encode()


@pytest.mark.parametrize(
    ("more", "side"), [({}, "sell"), ({"is_buy": False}, "sell"), ({"is_buy": True}, "buy")]
)
def test_a_trade_that_does_not_say_is_a_sell(more: dict[str, object], side: str) -> None:
    ((_, trade),) = decoded(block_of(spot("5_0", **more))).trades
    assert trade.side == side
    assert (trade.fee, trade.cid, trade.margin, trade.payout) == (ZERO, "", "", "")


def test_trades_are_put_into_the_chains_order_by_number_not_by_text() -> None:
    block = decoded(block_of(*(spot(f"5_{n}") for n in (10, 2, 0, 9, 1))))
    assert [trade.trade_id for _, trade in block.trades] == ["5_0", "5_1", "5_2", "5_9", "5_10"]


@pytest.mark.parametrize("last", ["x", "5_", "5_²", "5_" + "9" * 5_000])
def test_a_trade_id_without_a_number_is_an_error_that_names_the_market(last: str) -> None:
    with pytest.raises(DecodeError, match="does not end in a number") as error:
        ws_decoder.decode(block_of(spot("5_0"), spot(last)))
    assert error.value.market_id == "0x1"


ERRORS: dict[str, tuple[dict[str, Any], tuple[int, Rejected]]] = {
    "a subscription id that is taken": (
        {
            "id": 2,
            "error": {
                "code": -32603,
                "message": "Internal error",
                "data": "subscription_id already exists: a",
            },
        },
        (2, Rejected(-32603, "subscription_id already exists: a")),
    ),
    "bad JSON of ours, without an id": (
        {"error": {"code": -32700, "message": "Parse error. Invalid JSON"}},
        (-1, Rejected(-32700, "Parse error. Invalid JSON")),
    ),
    "a panic of the handler": (
        {"id": -1, "error": {"code": -32603, "message": "Internal error", "data": ""}},
        (-1, Rejected(-32603, "Internal error")),
    ),
    "a stream that ended": (
        {"id": 7, "error": {"code": 1, "message": "stream error", "data": ""}},
        (7, Rejected(1, "stream error")),
    ),
    "an unknown method": (
        {"id": 3, "error": {"code": -32601, "message": "Method not found"}},
        (3, Rejected(-32601, "Method not found")),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_a_rejection_of_its_subscription(name: str) -> None:
    answer, expected = ERRORS[name]
    assert ws_decoder.decode(json.dumps({"jsonrpc": "2.0"} | answer).encode()) == expected


WRONG: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "an answer that is neither": lambda: b'{"id":1,"result":"failure"}',
    "no answer at all": lambda: b'{"jsonrpc":"2.0","id":1}',
    "a list": lambda: b"[]",
    "a block without a height": lambda: b'{"id":1,"result":{"block_time":"1"}}',
    "a height of zero": lambda: b'{"id":1,"result":{"block_height":"0","block_time":"1"}}',
    "a negative height": lambda: b'{"id":1,"result":{"block_height":"-5","block_time":"1"}}',
    "a height beyond 64 bits": lambda: (
        b'{"id":1,"result":{"block_height":"%d","block_time":"1"}}' % 2**64
    ),
    "a time beyond 64 bits of ns": lambda: (
        b'{"id":1,"result":{"block_height":"1","block_time":"%d"}}' % 2**44
    ),
    "a trade without a price": lambda: (
        b'{"id":1,"result":{"block_height":"1","block_time":"1","spot_trades":'
        b'[{"market_id":"0x1","trade_id":"1_0","quantity":"1"}]}}'
    ),
    "lists in lists without end": lambda: b'{"id":1,"x":' + b"[" * 100_000,
    "a byte that is no UTF-8": lambda: b'{"id":1,"result":"succ\xffess"}',
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_of_the_format_is_a_decode_error(name: str) -> None:
    with pytest.raises(DecodeError) as error:
        ws_decoder.decode(WRONG[name]())
    assert error.value.market_id == ""
