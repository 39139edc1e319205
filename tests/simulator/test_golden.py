"""The encoders against recordings of the real node: byte for byte, but for random orders."""

import base64
import json
from itertools import groupby
from typing import Any

import pytest

from shards.adapters.injective_chain import block_results, ws_decoder
from shards.adapters.messages import INJECTIVE
from shards.protocol.events import Block, Trade
from tests.shards import golden
from tests.simulator.events_json import Events
from tests.simulator.exchange import SimBlock
from tests.simulator.filters import Filter, from_json
from tests.simulator.markets import Kind, Markets, SimMarket
from tests.simulator.payloads import market_filter
from tests.simulator.stream_proto import LevelsProto, ProtoBlock
from tests.simulator.trading import Execution
from tests.simulator.ws_json import LevelsJson, WsBlock

STREAM: Any = INJECTIVE.package("injective.stream.v2")
META = next(line for line in golden.recording() if line["kind"] == "meta")


def _markets() -> Markets:
    kind = Kind("T", 18, 3, 3, 10_000)
    perp = Kind("P", 0, 3, 3, 10_000)
    found = {
        m["market_id"]: SimMarket(
            market_id=m["market_id"], ticker=m["ticker"], type="spot", kind=kind
        )
        for m in META["markets"]
    }
    for m in META["perps"]:
        found[m["market_id"]] = SimMarket(
            market_id=m["market_id"], ticker=m["ticker"], type="derivative", kind=perp
        )
    return found


MARKETS = _markets()


def _decoded(line: dict[str, Any]) -> Block:
    block = ws_decoder.decode(line["ws"].encode())[1]
    assert isinstance(block, Block)
    return block


def _executions(block: Block) -> list[Execution]:
    """Put trades back into the batches that the chain executed."""

    def batch(of_market: tuple[str, Trade]) -> tuple[str, str, str]:
        market_id, trade = of_market
        return market_id, trade.execution_type, trade.side

    return [
        Execution(market_id, "end", execution_type, side, [trade for _, trade in trades])  # type: ignore[arg-type]
        for (market_id, execution_type, side), trades in groupby(block.trades, batch)
    ]


def sim_block(line: dict[str, Any]) -> SimBlock:
    """Turn a recorded block into one of ours."""
    block = _decoded(line)
    time_ms = block.ts_event // 1_000_000
    return SimBlock(block.height, time_ms, _executions(block), block.updates)


def recorded_filter() -> Filter:
    """Return the filter that the recording was made with."""
    return from_json(META["filter"])


def ordered(text: str | bytes) -> Any:
    """Parse JSON keeping the order of keys, with the lists of random order sorted."""

    def pairs(found: list[tuple[str, Any]]) -> Any:
        return [
            (k, sorted(v, key=str) if k.endswith(("_trades", "_updates")) else v) for k, v in found
        ]

    return json.loads(text, object_pairs_hook=pairs)


@pytest.mark.parametrize("line", golden.blocks(), ids=lambda line: str(line["height"]))
def test_a_block_is_printed_as_the_node_prints_it(line: dict[str, Any]) -> None:
    result = WsBlock(MARKETS, sim_block(line), LevelsJson()).result(recorded_filter())
    ours = b'{"jsonrpc":"2.0","id":1,"result":%b}' % result
    assert ordered(ours) == ordered(line["ws"])
    assert len(ours) == len(line["ws"])


@pytest.mark.parametrize("line", golden.blocks(), ids=lambda line: str(line["height"]))
def test_the_fast_way_for_one_market_prints_the_same(line: dict[str, Any]) -> None:
    block = WsBlock(MARKETS, sim_block(line), LevelsJson())
    for market in MARKETS.values():
        filter_ = market_filter(market)
        assert filter_.only_market(MARKETS) is market
        message = block.message(b'{"jsonrpc":"2.0","id":1,"result":', filter_, market)
        assert message == b'{"jsonrpc":"2.0","id":1,"result":%b}' % block.result(filter_)


@pytest.mark.parametrize("line", golden.blocks()[:20], ids=lambda line: str(line["height"]))
def test_the_events_of_a_block_are_printed_as_the_node_prints_them(line: dict[str, Any]) -> None:
    block = block_results.decode(golden.block_results(line), 0)
    executions = _executions(block)
    events = Events(MARKETS, SimBlock(block.height, 0, executions, block.updates))
    ours = [*events.executions("end"), *events.books()]
    theirs = [
        {"type": e["type"], "attributes": e["attributes"]} for e in line["block_results_events"]
    ]
    for our, their in zip((e for e in ours if ".v2." in e["type"]), theirs, strict=True):
        assert our == their


def test_legacy_twins_are_in_token_units() -> None:
    """A count would be doubled, and a reader would get other numbers."""
    line = golden.busiest()
    events = list(Events(MARKETS, sim_block(line)).executions("end"))
    assert [".v1beta1." in event["type"] for event in events] == [False, True] * (len(events) // 2)
    attributes = {a["key"]: a["value"] for a in events[1]["attributes"]}
    price, quantity = (json.loads(attributes["trades"])[0][k] for k in ("price", "quantity"))
    assert price.startswith("0.0000000000")
    assert quantity.endswith("000000000000.000000000000000000")
    assert base64.b64decode(json.loads(attributes["trades"])[0]["order_hash"])


@pytest.mark.parametrize("line", golden.blocks(), ids=lambda line: str(line["height"]))
def test_a_grpc_block_is_written_as_the_node_writes_it(line: dict[str, Any]) -> None:
    ours = ProtoBlock(MARKETS, sim_block(line), LevelsProto()).message(recorded_filter())
    theirs = base64.b64decode(line["grpc_b64"])
    assert len(ours) == len(theirs)
    our, their = (STREAM.StreamResponse.FromString(message) for message in (ours, theirs))
    for message in (our, their):
        for name in ("spot_trades", "derivative_trades"):
            getattr(message, name).sort(key=lambda trade: trade.trade_id)
        for name in ("spot_orderbook_updates", "derivative_orderbook_updates"):
            getattr(message, name).sort(key=lambda update: update.orderbook.market_id)
    assert our.SerializeToString(deterministic=True) == their.SerializeToString(deterministic=True)
