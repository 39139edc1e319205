"""Faults as clients of the gRPC servers and of the RPC see them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import grpc.aio
import pytest

from shards.adapters.messages import INJECTIVE
from shards.net.rpc import Rpc, latest_height
from shards.protocol.errors import SourceError
from tests.simulator import faults
from tests.simulator.scripted import HEARD, blocks, eventually
from tests.simulator.venue import Options, Venue, running

QUERY: Any = INJECTIVE.package("injective.exchange.v2")
QUERIES: Final = "injective.exchange.v2.Query"
STREAM: Any = INJECTIVE.package("injective.stream.v2")
SPOT: Any = INJECTIVE.package("injective_spot_exchange_rpc")
SPOT_RPC: Final = "injective_spot_exchange_rpc.InjectiveSpotExchangeRPC"


@pytest.fixture
async def query(venue: Venue) -> AsyncIterator[Any]:
    """A stub of the chain's queries."""
    async with grpc.aio.insecure_channel(venue.queries.endpoint) as channel:
        yield INJECTIVE.stub(QUERIES, channel)


async def ask_book(query: Any, venue: Venue, **metadata: str) -> tuple[int, int, dict[str, str]]:
    """Ask for a book; return its sequence, height, and the metadata of the answer."""
    request = QUERY.QuerySpotOrderbookRequest(market_id=venue.exchange.markets[0].market_id)
    call = query.SpotOrderbook(request, timeout=30, metadata=tuple(metadata.items()))
    response = await call
    answered = dict(await call.initial_metadata())
    return response.seq, int(answered["x-cosmos-block-height"]), answered


async def test_stale_and_slow_snapshots(venue: Venue, query: Any) -> None:
    await blocks(venue, 8)
    sequence, height, _ = await ask_book(query, venue)
    await venue.inject(faults.StaleSnapshot(behind=3))
    assert (await ask_book(query, venue))[:2] == (sequence - 3, height - 3)
    venue.heal()
    await venue.inject(faults.SlowSnapshot(delay_s=0.3))
    began = time.monotonic()
    asking = asyncio.create_task(ask_book(query, venue))
    await eventually(lambda: venue.queries.queries == 3)
    await blocks(venue, 1)
    assert (await asking)[:2] == (sequence, height)
    assert time.monotonic() - began >= 0.3


async def test_a_node_behind_does_not_have_the_newest_blocks_yet(venue: Venue) -> None:
    await blocks(venue, 3)
    await venue.inject(faults.StaleSnapshot(behind=2))
    rpc = Rpc(venue.rpc.url)
    assert await latest_height(rpc) == venue.exchange.height - 2
    answer = await rpc.call("block_results", height=str(venue.exchange.height))
    assert b"must be less than or equal to the current blockchain height" in answer
    rpc.close()


async def test_after_a_change_of_cookie_the_old_one_leads_to_a_backend_behind(
    venue: Venue, query: Any
) -> None:
    await blocks(venue, 8)
    await venue.inject(faults.CookieChange(behind=4))
    _, height, answered = await ask_book(query, venue)
    assert height == venue.exchange.height - 4
    cookie = answered["set-cookie"].partition(";")[0]
    assert (await ask_book(query, venue, cookie=cookie))[1] == venue.exchange.height
    await venue.inject(faults.CookieChange(behind=4))
    assert (await ask_book(query, venue, cookie=cookie))[1] == venue.exchange.height - 4


async def test_all_servers_stop_and_come_back_where_they_were(venue: Venue, query: Any) -> None:
    endpoints = venue.endpoints()
    await ask_book(query, venue)
    async with streaming(venue) as call:
        await venue.inject(faults.Stop(for_s=1.0))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError):
        await ask_book(query, venue)
    await eventually(venue.is_whole)
    assert venue.endpoints() == endpoints
    # A pool of its own: the other channel's is backing off after the refusal.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(venue.queries.endpoint, options) as channel:
        await ask_book(INJECTIVE.stub(QUERIES, channel), venue)
    async with streaming(venue) as call:
        await blocks(venue, 1)
        assert (await call.read()).block_height == venue.exchange.height
    rpc = Rpc(venue.rpc.url)
    assert await latest_height(rpc) == venue.exchange.height
    rpc.close()


async def test_a_refused_query_is_unavailable(venue: Venue, query: Any) -> None:
    await venue.inject(faults.Refuse(protocol="grpc"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask_book(query, venue)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_refused_rpc_does_not_connect(venue: Venue) -> None:
    await venue.inject(faults.Refuse(protocol="rpc"))
    with pytest.raises(SourceError, match="429"):
        await Rpc(venue.rpc.url).call("status")


@contextlib.asynccontextmanager
async def streaming(venue: Venue) -> AsyncIterator[Any]:
    """Open a gRPC chain stream; wait until the server has it."""
    books = STREAM.OrderbookFilter(market_ids=["*"])
    async with grpc.aio.insecure_channel(venue.stream.endpoint) as channel:
        call = INJECTIVE.stub("injective.stream.v2.Stream", channel).StreamV2(
            STREAM.StreamRequest(spot_orderbooks_filter=books)
        )
        await eventually(lambda: venue.stream.calls)
        yield call
        call.cancel()


@pytest.mark.parametrize(("fault", "expected"), HEARD, ids=repr)
async def test_heights_heard_on_the_grpc_stream(
    venue: Venue, fault: faults.Fault, expected: list[int]
) -> None:
    async with streaming(venue) as call:
        base = venue.exchange.height
        await venue.inject(fault)
        await blocks(venue, 6)
        heard = [(await call.read()).block_height - base for _ in expected]
        assert heard == expected


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (faults.StreamError(), grpc.StatusCode.INTERNAL),
        (faults.BlockError(), grpc.StatusCode.INTERNAL),
        (faults.Disconnect(), grpc.StatusCode.UNAVAILABLE),
        (faults.Oversized(size=5 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_how_a_grpc_stream_ends(venue: Venue, fault: Any, code: grpc.StatusCode) -> None:
    async with streaming(venue) as call:
        await venue.inject(fault)
        await blocks(venue, 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in call:
                pass
        assert caught.value.code() is code


async def test_grpc_aio_makes_none_of_garbage_and_goes_on(venue: Venue) -> None:
    async with streaming(venue) as call:
        await venue.inject(faults.Garbage())
        await blocks(venue, 2)
        assert await call.read() is None
        assert (await call.read()).block_height == venue.exchange.height


async def test_a_mute_grpc_stream_stays_open(venue: Venue) -> None:
    async with streaming(venue) as call:
        await venue.inject(faults.Mute(after=1))
        await blocks(venue, 4)
        await call.read()
        reading = asyncio.create_task(call.read())
        done, _ = await asyncio.wait([reading], timeout=0.3)
        assert not done
        assert not call.done()
        reading.cancel()


async def test_the_indexer_leaves_out_and_repeats(venue: Venue) -> None:
    market_id = venue.exchange.markets[0].market_id
    async with grpc.aio.insecure_channel(venue.indexer.endpoint) as channel:
        stub = INJECTIVE.stub(SPOT_RPC, channel)
        call = stub.StreamOrderbookUpdate(SPOT.StreamOrderbookUpdateRequest(market_ids=[market_id]))
        await eventually(lambda: venue.indexer.calls)
        base = venue.exchange.sequence(market_id)
        await venue.inject(faults.Gap(after=1, protocol="indexer"))
        await venue.inject(faults.Duplicate(after=3, protocol="indexer"))
        await blocks(venue, 5)
        heard = [(await call.read()).orderbook_level_updates.sequence - base for _ in range(5)]
        assert heard == [1, 3, 4, 4, 5]
        call.cancel()


async def test_the_indexers_queries_may_come_from_a_replica_behind(venue: Venue) -> None:
    await blocks(venue, 8)
    market_id = venue.exchange.markets[0].market_id
    async with grpc.aio.insecure_channel(venue.indexer.endpoint) as channel:
        stub = INJECTIVE.stub(SPOT_RPC, channel)

        async def asked() -> tuple[int, int]:
            books = await stub.OrderbooksV2(SPOT.OrderbooksV2Request(market_ids=[market_id]))
            (single,) = books.orderbooks
            trades = await stub.TradesV2(SPOT.TradesV2Request(limit=1))
            return single.orderbook.height, int(trades.trades[0].trade_id.partition("_")[0])

        height, newest = await asked()
        assert height == venue.exchange.height
        await venue.inject(faults.StaleSnapshot(behind=5))
        behind, older = await asked()
        assert behind == height - 5
        assert older <= min(newest, behind)


async def test_calls_beyond_the_indexers_limit_of_a_connection_wait_in_silence() -> None:
    async with contextlib.AsyncExitStack() as stack:
        limited = Options(indexer_streams=3)
        venue = await stack.enter_async_context(running(limited, paced=False))
        one, other = [
            INJECTIVE.stub(
                SPOT_RPC,
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(
                        venue.indexer.endpoint, [("grpc.use_local_subchannel_pool", 1)]
                    )
                ),
            )
            for _ in range(2)
        ]
        await one.Markets(SPOT.MarketsRequest())
        request = SPOT.StreamOrderbookUpdateRequest()
        calls = [one.StreamOrderbookUpdate(request) for _ in range(5)]
        await eventually(lambda: len(venue.indexer.calls) == 3)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await one.Markets(SPOT.MarketsRequest(), timeout=0.5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(venue.indexer.calls) == 3
        await other.Markets(SPOT.MarketsRequest())
        for call in calls:
            call.cancel()
