"""The gRPC chain stream: the same checks for the simulator and the real node."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from shards.adapters.injective_chain.grpc_decoder import decimal_text
from shards.adapters.messages import INJECTIVE
from tests.simulator.client import Simulator

STREAM: Any = INJECTIVE.package("injective.stream.v2")
LEGACY: Any = INJECTIVE.package("injective.stream.v1beta1")


@pytest.fixture(params=["simulator", pytest.param("node", marks=pytest.mark.node)])
def endpoint(request: pytest.FixtureRequest) -> str:
    """Where the stream is served."""
    running = request.getfixturevalue("healthy" if request.param == "simulator" else "node")
    return str(running.info["endpoints"]["chain_stream"])


@pytest.fixture
def stub(endpoint: str) -> Iterator[Any]:
    """A stub of the stream."""
    with grpc.insecure_channel(endpoint) as channel:
        yield INJECTIVE.stub("injective.stream.v2.Stream", channel)


def _everything() -> Any:
    books = STREAM.OrderbookFilter(market_ids=["*"])
    trades = STREAM.TradesFilter(market_ids=["*"], subaccount_ids=["*"])
    return STREAM.StreamRequest(
        spot_orderbooks_filter=books,
        derivative_orderbooks_filter=books,
        spot_trades_filter=trades,
        derivative_trades_filter=trades,
    )


def _take(call: Any, blocks: int) -> list[Any]:
    taken = [next(call) for _ in range(blocks)]
    call.cancel()
    return taken


def test_blocks_come_without_a_hole_and_sequences_go_up_by_one(stub: Any) -> None:
    blocks = _take(stub.StreamV2(_everything(), timeout=30), 8)
    first = blocks[0].block_height
    assert [block.block_height for block in blocks] == list(range(first, first + 8))
    last: dict[str, int] = {}
    for block in blocks:
        for update in [*block.spot_orderbook_updates, *block.derivative_orderbook_updates]:
            market_id = update.orderbook.market_id
            assert update.seq == last.get(market_id, update.seq - 1) + 1
            last[market_id] = update.seq
    assert last


def test_amounts_are_integers_of_10_to_the_minus_18(stub: Any) -> None:
    for block in _take(stub.StreamV2(_everything(), timeout=30), 8):
        for update in block.spot_orderbook_updates:
            for level in [*update.orderbook.buy_levels, *update.orderbook.sell_levels]:
                assert level.p.isdigit()
                assert level.q.isdigit()
        assert block.gas_price.endswith(".000000000000000000")


def test_a_stream_without_a_filter_is_refused(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        next(stub.StreamV2(STREAM.StreamRequest(), timeout=60))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "at least one filter must be set" in caught.value.details()


def test_unknown_ids_are_accepted_in_silence(stub: Any) -> None:
    request = STREAM.StreamRequest(
        spot_orderbooks_filter=STREAM.OrderbookFilter(market_ids=["0xnone", "*"])
    )
    for block in _take(stub.StreamV2(request, timeout=30), 3):
        assert not block.spot_orderbook_updates


def test_stream_and_truth_agree(healthy: Simulator) -> None:
    with grpc.insecure_channel(healthy.stream) as channel:
        call = INJECTIVE.stub("injective.stream.v2.Stream", channel).StreamV2(
            _everything(), timeout=30
        )
        blocks = _take(call, 6)
    for block in blocks:
        truth = healthy.block(block.block_height)
        assert block.block_time * 1_000_000 == truth.ts_event
        updates = [*block.spot_orderbook_updates, *block.derivative_orderbook_updates]
        assert {u.orderbook.market_id: u.seq for u in updates} == {
            u.market_id: u.sequence for u in truth.updates
        }
        trades = {t.trade_id: decimal_text(t.price) for t in block.spot_trades}
        trades |= {
            t.trade_id: decimal_text(t.position_delta.execution_price)
            for t in block.derivative_trades
        }
        assert trades == {trade.trade_id: trade.price for _, trade in truth.trades}


def test_the_old_stream_is_not_served(healthy: Simulator) -> None:
    with grpc.insecure_channel(healthy.stream) as channel:
        call = INJECTIVE.stub("injective.stream.v1beta1.Stream", channel).Stream(
            LEGACY.StreamRequest(), timeout=60
        )
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
