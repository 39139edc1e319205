"""
The contract: the same client checks hold for the simulator and for the real node.

Where one of these fails on the simulator alone, the simulator is wrong; on the node alone,
feeds.md is. They look at bytes and at what our own decoders make of them.
"""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import grpc
import msgspec
import pytest

from collector.markets.discovery import discover
from shards.adapters.injective_chain import block_results, grpc_decoder, ws_decoder
from shards.adapters.injective_chain.lost_blocks import RpcReplay
from shards.adapters.messages import INJECTIVE
from shards.net.rpc import Rpc, latest_height
from shards.protocol.events import ZERO, Block, Snapshot
from shards.protocol.settings import Endpoints
from tests.shards import golden
from tests.simulator.listening import EVERYTHING, count, listen, subscribe

QUERY: Any = INJECTIVE.package("injective.exchange.v2")
BLOCKS = 14


@pytest.fixture(scope="module", params=["simulator", pytest.param("node", marks=pytest.mark.node)])
def upstream(request: pytest.FixtureRequest) -> Any:
    """Something that serves the chain's protocols: `ws`, `grpc`, `rpc`, `markets`."""
    return request.getfixturevalue("healthy" if request.param == "simulator" else "node")


@pytest.fixture(scope="module")
def recorded(upstream: Any) -> list[bytes]:
    """What one subscription to everything hears, the confirmation first."""
    wanted = [subscribe(7, "all", EVERYTHING)]
    return asyncio.run(listen(upstream.ws, wanted, count(BLOCKS + 1)))


@pytest.fixture(scope="module")
def blocks(recorded: list[bytes]) -> list[Block]:
    """The same, decoded."""
    decoded = [ws_decoder.decode(payload) for payload in recorded[1:]]
    assert {request_id for request_id, _ in decoded} == {7}
    return [block for _, block in decoded if isinstance(block, Block)]


@pytest.fixture(scope="module")
def query(upstream: Any) -> Iterator[Any]:
    """A stub of the chain's queries."""
    with grpc.insecure_channel(upstream.grpc) as channel:
        yield INJECTIVE.stub("injective.exchange.v2.Query", channel)


def test_heights_are_contiguous(blocks: list[Block]) -> None:
    first = blocks[0].height
    assert [block.height for block in blocks] == list(range(first, first + BLOCKS))


def test_block_times_are_milliseconds_and_grow(blocks: list[Block]) -> None:
    times = [block.ts_event for block in blocks]
    assert times == sorted(times)
    assert all(time % 1_000_000 == 0 and time > 1_700_000_000 * 10**9 for time in times)


def test_sequences_go_up_by_one_per_market(blocks: list[Block]) -> None:
    last: dict[str, int] = {}
    for block in blocks:
        markets = [update.market_id for update in block.updates]
        assert len(markets) == len(set(markets)), "at most one update per market and block"
        for update in block.updates:
            assert update.sequence == last.get(update.market_id, update.sequence - 1) + 1
            last[update.market_id] = update.sequence
    assert last, "no book changed; is there any traffic?"


def test_trade_ids_count_over_all_markets_of_a_block(blocks: list[Block]) -> None:
    for block in blocks:
        ids = [trade.trade_id for _, trade in block.trades]
        assert ids == [f"{block.height}_{n}" for n in range(len(ids))]
    assert any(block.trades for block in blocks)


def test_both_sides_of_each_match_are_reported(blocks: list[Block]) -> None:
    trades = [trade for block in blocks for _, trade in block.trades]
    assert {trade.side for trade in trades} == {"buy", "sell"}


TRADE_END = ["fee", "order_hash", "fee_recipient_address", "cid", "trade_id"]
ORDERS = {
    "": ["jsonrpc", "id", "result"],
    ".result": list(golden.read("ws_stream_message_skeleton.json")["result"]),
    ".result.spot_trades": [
        "market_id",
        "is_buy",
        "executionType",
        "quantity",
        "price",
        "subaccount_id",
        *TRADE_END,
    ],
    ".result.derivative_trades": [
        "market_id",
        "is_buy",
        "executionType",
        "subaccount_id",
        "position_delta",
        "payout",
        *TRADE_END,
    ],
    ".result.derivative_trades.position_delta": [
        "is_long",
        "execution_quantity",
        "execution_margin",
        "execution_price",
    ],
}
UPDATE = {"": ["seq", "orderbook"], ".orderbook": ["market_id", "buy_levels", "sell_levels"]} | {
    f".orderbook.{side}_levels": ["p", "q"] for side in ("buy", "sell")
}
for _name in ("spot", "derivative"):
    ORDERS |= {f".result.{_name}_orderbook_updates{path}": keys for path, keys in UPDATE.items()}


def test_keys_come_in_the_order_of_the_node(recorded: list[bytes]) -> None:
    """What may be absent may; test_golden has the recorded node to the byte."""
    for payload in recorded[1:]:
        for path, keys in _objects(json.loads(payload), ""):
            rest = iter(ORDERS[path])
            assert all(key in rest for key in keys), f"{path}: {keys}"


def _objects(value: Any, path: str) -> Iterator[tuple[str, list[str]]]:
    """Give every object's path and keys."""
    if isinstance(value, dict):
        yield path, list(value)
        for key, inner in value.items():
            yield from _objects(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner, path)


def test_a_list_not_asked_for_is_empty_and_one_without_a_match_absent(upstream: Any) -> None:
    nothing = {"spot_orderbooks_filter": {"market_ids": ["0xnone"]}}
    heard = asyncio.run(listen(upstream.ws, [subscribe(1, "a", nothing)], count(2)))
    result = json.loads(heard[1])["result"]
    assert "spot_orderbook_updates" not in result
    assert result["derivative_orderbook_updates"] == []
    assert result["gas_price"].endswith(".000000000000000000")
    assert list(result)[:3] == ["block_height", "block_time", "bank_balances"]


BOOKS = {"spot_orderbooks_filter": {"market_ids": ["*"]}}
INTERNAL = {"code": -32603, "message": "Internal error"}
ANSWERS: list[tuple[Any, dict[str, Any]]] = [
    (subscribe(1, "a", BOOKS), {"id": 1, "result": "success"}),
    (subscribe(2, "a", BOOKS), {"id": 2, "error": INTERNAL | {"data": "subscription_id already exists: a"}}),
    (subscribe(3, "b", {}), {"id": 3, "error": INTERNAL | {"data": "invalid filter: at least one filter must be set"}}),
    (subscribe(4, "b", {"spotOrderbooksFilter": BOOKS}), {"id": 4, "error": INTERNAL | {"data": "invalid filter: at least one filter must be set"}}),
    (subscribe("x", "b", BOOKS), {"id": "x", "error": INTERNAL | {"data": "invalid request: expected non-negative int as id"}}),
    ({"jsonrpc": "2.0", "id": 5, "method": "nope"}, {"id": 5, "error": {"code": -32601, "message": "Method not found"}}),
    ({"jsonrpc": "2.0", "id": 6, "method": "subscribe", "params": {}}, {"id": -1, "error": INTERNAL | {"data": "runtime error: invalid memory address or nil pointer dereference"}}),
    ({"jsonrpc": "2.0", "id": 8, "method": "unsubscribe", "params": {"req": {"subscription_id": "zz"}}}, {"id": 8, "error": INTERNAL | {"data": "subscription not found: zz"}}),
    ({"jsonrpc": "2.0", "id": 9, "method": "unsubscribe", "params": {"req": {"subscription_id": "a"}}}, {"id": 9, "result": "success"}),
]  # fmt: skip


def test_answers_to_requests_good_and_bad(upstream: Any) -> None:
    requests = [request for request, _ in ANSWERS]
    heard = asyncio.run(listen(upstream.ws, requests, _answers(len(requests))))
    answers = [payload for payload in heard if b"block_height" not in payload]
    expected = [{"jsonrpc": "2.0"} | answer for _, answer in ANSWERS]
    assert [json.loads(answer) for answer in answers] == expected
    assert answers[0] == b'{"jsonrpc":"2.0","id":1,"result":"success"}'


def _answers(number: int) -> Any:
    return lambda heard: sum(b"block_height" not in payload for payload in heard) >= number


@pytest.mark.parametrize("request_", [b"{bad", b"[]"])
def test_what_is_no_request_gets_an_error_without_an_id(upstream: Any, request_: bytes) -> None:
    heard = asyncio.run(listen(upstream.ws, [request_], count(1)))
    answer = json.loads(heard[0])
    assert "id" not in answer
    assert answer["error"]["code"] == -32700


def test_a_request_without_an_id_is_ignored(upstream: Any) -> None:
    silent = {key: value for key, value in subscribe(1, "a", BOOKS).items() if key != "id"}
    wanted = [silent, subscribe(2, "a", BOOKS)]
    heard = asyncio.run(listen(upstream.ws, wanted, count(2)))
    assert json.loads(heard[0]) == {"jsonrpc": "2.0", "id": 2, "result": "success"}


def test_a_wildcard_counts_only_in_the_first_place_and_ids_must_be_exact(upstream: Any) -> None:
    market_ids = ["0xnone", "*", *(m["market_id"].upper() for m in upstream.markets)]
    wrong = {name: {"market_ids": market_ids} for name in list(EVERYTHING)[:2]}
    heard = asyncio.run(listen(upstream.ws, [subscribe(1, "a", wrong)], count(6)))
    for payload in heard[1:]:
        _, block = ws_decoder.decode(payload)
        assert isinstance(block, Block)
        assert not block.updates


def test_block_results_rebuild_what_the_stream_said(upstream: Any, blocks: list[Block]) -> None:
    async def fetch() -> list[Block]:
        rpc = Rpc(upstream.rpc)
        try:
            replay = RpcReplay(rpc)
            return [await replay.fetch(block.height) for block in blocks[:-1]]
        finally:
            rpc.close()

    for replayed, streamed in zip(asyncio.run(fetch()), blocks[:-1], strict=True):
        assert replayed.height == streamed.height
        assert replayed.ts_event == streamed.ts_event
        assert replayed.trades == streamed.trades
        assert _by_market(replayed) == _by_market(streamed)


def _by_market(block: Block) -> dict[str, Any]:
    return {update.market_id: update for update in block.updates}


def _book(
    query: Any, market_id: str, *, spot: bool, height: int = 0, limit: int = 10**6
) -> Snapshot:
    request = QUERY.QuerySpotOrderbookRequest if spot else QUERY.QueryDerivativeOrderbookRequest
    method = query.SpotOrderbook if spot else query.DerivativeOrderbook
    metadata = (("x-cosmos-block-height", str(height)),) if height else ()
    response, call = method.with_call(
        request(market_id=market_id, limit=limit), metadata=metadata, timeout=30
    )
    answered = dict(call.initial_metadata())["x-cosmos-block-height"]
    return grpc_decoder.snapshot(market_id, int(answered), response)


def test_a_pinned_query_is_the_book_that_the_stream_builds(
    upstream: Any, query: Any, blocks: list[Block]
) -> None:
    types = {market["market_id"]: market["type"] for market in upstream.markets}
    last = blocks[-2].height
    changed = {update.market_id for block in blocks[:-1] for update in block.updates}
    for market_id in sorted(changed)[:10]:
        spot = types[market_id] == "spot"
        book = _book(query, market_id, spot=spot, height=blocks[0].height - 1)
        assert book.height == blocks[0].height - 1
        sides, sequence = (dict(book.bids), dict(book.asks)), book.sequence
        for block in blocks[:-1]:
            for update in block.updates:
                if update.market_id == market_id:
                    sides[0].update(update.bids)
                    sides[1].update(update.asks)
                    sequence = update.sequence
        at_end = _book(query, market_id, spot=spot, height=last)
        assert at_end.sequence == sequence
        for side, levels in zip(sides, (at_end.bids, at_end.asks), strict=True):
            assert {p: q for p, q in side.items() if q != ZERO} == dict(levels)


def test_books_come_with_the_best_level_first(upstream: Any, query: Any) -> None:
    for market in upstream.markets[:6]:
        book = _book(query, market["market_id"], spot=market["type"] == "spot")
        bids, asks = ([float(price) for price, _ in side] for side in (book.bids, book.asks))
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)


def test_without_a_limit_a_book_has_twenty_levels_a_side(upstream: Any, query: Any) -> None:
    deepest = 0
    for market in upstream.markets:
        spot = market["type"] == "spot"
        whole = _book(query, market["market_id"], spot=spot)
        if max(len(whole.bids), len(whole.asks)) <= 20:
            continue
        cut = _book(query, market["market_id"], spot=spot, limit=0)
        deepest = max(deepest, len(cut.bids), len(cut.asks))
    assert deepest in (0, 20), "0: no book is deep enough to tell"


@pytest.mark.parametrize("market_id", ["0x" + "ab" * 32, "0xzz", ""])
def test_the_book_of_an_unknown_market_is_empty_not_an_error(query: Any, market_id: str) -> None:
    book = _book(query, market_id, spot=True)
    assert (book.sequence, book.bids, book.asks) == (0, [], [])


@pytest.mark.parametrize(("height", "code"), [("99999999", 26), ("x", 18), ("-5", 18)])
def test_an_impossible_height_is_refused(query: Any, height: str, code: int) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        query.SpotOrderbook(
            QUERY.QuerySpotOrderbookRequest(market_id="0x00"),
            metadata=(("x-cosmos-block-height", height),),
            timeout=30,
        )
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert f"codespace sdk code {code}:" in caught.value.details()


def test_markets_are_found_by_status_spelled_exactly(upstream: Any, query: Any) -> None:
    active = query.SpotMarkets(QUERY.QuerySpotMarketsRequest(status="Active"), timeout=30)
    assert active.markets
    assert query.SpotMarkets(QUERY.QuerySpotMarketsRequest(), timeout=30) == active
    for wrong in ("active", "Nonsense"):
        none = query.SpotMarkets(QUERY.QuerySpotMarketsRequest(status=wrong), timeout=30)
        assert not none.markets


def test_discovery_finds_every_market(upstream: Any) -> None:
    markets = discover(Endpoints(chain_grpc=(upstream.grpc,)))
    known = {market["market_id"]: market for market in upstream.markets}
    assert {market.market_id for market in markets} == set(known)
    for market in markets:
        described = known[market.market_id]
        assert (market.ticker, market.type) == (described["ticker"], described["type"])
        assert market.status == ("Paused" if described["paused"] else "Active")


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.loads(answer.read())


def test_best_prices_and_volumes_can_be_had_of_the_past(
    upstream: Any, query: Any, blocks: list[Block]
) -> None:
    # The node streams a block a moment before it can be asked for.
    height = blocks[-2].height
    pinned = (("x-cosmos-block-height", str(height)),)
    asked: dict[str, Any] = {"status": "Active", "with_mid_price_and_tob": True}
    full: list[Any] = []
    for method, request in (
        (query.FullSpotMarkets, QUERY.QueryFullSpotMarketsRequest),
        (query.DerivativeMarkets, QUERY.QueryDerivativeMarketsRequest),
    ):
        full += method(request(**asked), metadata=pinned).markets
    for one in full[:6]:
        spot = type(one) is QUERY.FullSpotMarket
        book, top = (
            _book(query, one.market.market_id, spot=spot, height=height),
            one.mid_price_and_tob,
        )
        best = (top.best_buy_price, top.best_sell_price)
        assert best == tuple(
            str(int(Decimal(side[0][0]) * 10**18)) if side else ""
            for side in (book.bids, book.asks)
        )
        assert bool(top.mid_price) == all(best)

    def traded(at: int) -> dict[str, int]:
        answer = query.AggregateMarketVolumes(
            QUERY.QueryAggregateMarketVolumesRequest(),
            metadata=(("x-cosmos-block-height", str(at)),),
        )
        return {
            one.market_id: int(one.volume.maker_volume or 0) + int(one.volume.taker_volume or 0)
            for one in answer.volumes
        }

    before, after = traded(blocks[0].height), traded(height)
    moved = {m for m, volume in after.items() if volume != before.get(m, 0)}
    assert moved == {market_id for block in blocks[1:-1] for market_id, _ in block.trades}


def test_rpc_answers_the_same_over_http_and_websocket(upstream: Any, blocks: list[Block]) -> None:
    height = blocks[0].height

    async def fetch() -> list[Any]:
        rpc = Rpc(upstream.rpc)
        try:
            assert await latest_height(rpc) >= height
            return [
                msgspec.json.decode(await rpc.call(method, height=str(height)))
                for method in ("block_results", "header")
            ]
        finally:
            rpc.close()

    for method, answer in zip(("block_results", "header"), asyncio.run(fetch()), strict=True):
        got = _get(f"{upstream.rpc}/{method}?height={height}")
        assert got["id"] == -1
        assert got["result"] == answer["result"]
    keys = ["height", "txs_results", "finalize_block_events", "validator_updates"]
    assert list(_get(f"{upstream.rpc}/block_results?height={height}")["result"])[:4] == keys


@pytest.mark.parametrize("method", ["block_results", "header"])
def test_rpc_refuses_heights_it_does_not_have_yet(upstream: Any, method: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        _get(f"{upstream.rpc}/{method}?height=99999999")
    assert caught.value.code == 500
    answer = json.loads(caught.value.read())
    caught.value.close()
    assert (answer["id"], answer["error"]["code"]) == (-1, -32603)
    assert "must be less than or equal to the current blockchain height" in answer["error"]["data"]


def test_status_says_what_can_be_asked_for(upstream: Any) -> None:
    sync = _get(f"{upstream.rpc}/status")["result"]["sync_info"]
    assert int(sync["earliest_block_height"]) <= int(sync["latest_block_height"])
    # The newest may be stored before its results are; then the node answers with 500.
    height = int(sync["latest_block_height"]) - 1
    answer = _get(f"{upstream.rpc}/block_results?height={height}")
    assert block_results.decode(json.dumps(answer).encode(), ts_event=0).height == height
