"""Every fault, as a client sees it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import msgspec
import pytest
from picows import WSMsgType

from collector.discovery import discover
from shards.config import Endpoints
from shards.decoders import chain_ws
from shards.errors import SourceError
from shards.events import Block, Rejected
from shards.sources import stubs, websocket
from shards.sources.rpc import Rpc, latest_height
from tests.simulator import faults
from tests.simulator.client import simulator
from tests.simulator.exchange import Activity
from tests.simulator.listening import EVERYTHING, subscribe
from tests.simulator.markets import ALL_BUSY
from tests.simulator.venue import Options, Venue, running

QUERY: Any = stubs.load("injective.exchange.v2.query_pb2")
QUERY_SERVICE: Any = stubs.load("injective.exchange.v2.query_pb2_grpc")
STREAM: Any = stubs.load("injective.stream.v2.query_pb2")
STREAM_SERVICE: Any = stubs.load("injective.stream.v2.query_pb2_grpc")
SPOT: Any = stubs.load("exchange.injective_spot_exchange_rpc_pb2")
SPOT_SERVICE: Any = stubs.load("exchange.injective_spot_exchange_rpc_pb2_grpc")

BUSY = Options(markets=6, activity=Activity(touched=1.0, matches=2.0, shares=ALL_BUSY), buffer=10)


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    """An exchange whose blocks are made by the test."""
    async with running(BUSY, paced=False) as running_venue:
        yield running_venue


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for something of the servers' that nothing announces."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)


class Client:
    """A WebSocket client that keeps what it hears, decoded."""

    def __init__(self, transport: Any, listener: websocket.Listener) -> None:
        self.transport = transport
        self.listener = listener
        self.heard: list[tuple[int, Any]] = []
        self.news = asyncio.Event()

    def send(self, request: Any) -> None:
        self.transport.send(WSMsgType.TEXT, msgspec.json.encode(request))

    def heights(self, request_id: int) -> list[int]:
        """Return the heights that a subscription heard, in the order of hearing."""
        return [b.height for i, b in self.heard if i == request_id and isinstance(b, Block)]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something to be true of what was heard."""
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()


@contextlib.asynccontextmanager
async def listening(venue: Venue, *subscriptions: Any) -> AsyncIterator[Client]:
    """Connect and subscribe: to everything, or to each market named, from request id 1 on."""
    pending: list[Client] = []

    def receive(payload: memoryview | bytes, ts_recv: int, last: bool) -> None:
        pending[0].heard.append(chain_ws.decode(payload))
        pending[0].news.set()

    client = Client(*await websocket.connect(venue.ws.url, receive))
    pending.append(client)
    for number, filters in enumerate(subscriptions or (EVERYTHING,), start=1):
        client.send(subscribe(number, f"s{number}", filters))
    await client.until(lambda: len(client.heard) == max(len(subscriptions), 1))
    try:
        yield client
    finally:
        client.transport.disconnect(graceful=False)


def one_market(venue: Venue, number: int) -> Any:
    """Return the filter of one spot market's book."""
    return {"spot_orderbooks_filter": {"market_ids": [venue.exchange.markets[number].market_id]}}


async def blocks(venue: Venue, number: int) -> None:
    """Make so many blocks."""
    for _ in range(number):
        await venue.make_block()


HEARD: list[tuple[faults.Fault, list[int]]] = [
    (faults.Gap(after=1, blocks=2), [1, 4, 5, 6]),
    (faults.HeightJump(after=2, blocks=3), [1, 2, 6]),
    (faults.Duplicate(after=1, blocks=2), [1, 2, 2, 3, 3, 4, 5, 6]),
    (faults.Reorder(after=2), [1, 2, 4, 3, 5, 6]),
    (faults.Reorder(after=0, blocks=3), [2, 1, 4, 3, 5, 6]),
    (faults.Stall(after=1, blocks=3), [1, 2, 3, 4, 5, 6]),
    (faults.ClockSkew(), [1, 2, 3, 4, 5, 6]),
]


@pytest.mark.parametrize(("fault", "expected"), HEARD, ids=repr)
async def test_heights_heard_on_the_websocket(
    venue: Venue, fault: faults.Fault, expected: list[int]
) -> None:
    async with listening(venue) as client:
        base = venue.exchange.height
        await venue.inject(fault)
        await blocks(venue, 6)
        await client.until(lambda: len(client.heights(1)) == len(expected))
        assert [height - base for height in client.heights(1)] == expected


async def test_a_stall_says_nothing_and_then_everything(venue: Venue) -> None:
    async with listening(venue) as client:
        await venue.inject(faults.Stall(blocks=3))
        await blocks(venue, 3)
        client.send(subscribe(9, "s1", EVERYTHING))
        await client.until(lambda: client.heard[-1][0] == 9)
        assert not client.heights(1)
        await blocks(venue, 1)
        await client.until(lambda: len(client.heights(1)) == 4)


async def test_mute_silences_one_subscription_until_it_is_made_anew(venue: Venue) -> None:
    async with listening(venue, one_market(venue, 0), one_market(venue, 1)) as client:
        market = venue.exchange.markets[0].ticker
        await venue.inject(faults.Mute(market=market, after=2))
        await blocks(venue, 5)
        await client.until(lambda: len(client.heights(2)) == 5)
        assert len(client.heights(1)) == 2
        client.send(subscribe(3, "again", one_market(venue, 0)))
        await client.until(lambda: client.heard[-1][0] == 3)
        await blocks(venue, 2)
        await client.until(lambda: len(client.heights(3)) == 2)
        assert len(client.heights(1)) == 2


async def test_an_update_left_out_shows_only_in_the_sequence(venue: Venue) -> None:
    async with listening(venue, one_market(venue, 0)) as client:
        await venue.inject(faults.Gap(after=1, what="updates"))
        await blocks(venue, 3)
        await client.until(lambda: len(client.heights(1)) == 3)
        heard = [block.updates for _, block in client.heard if isinstance(block, Block)]
        assert [len(updates) for updates in heard] == [1, 0, 1]
        assert heard[2][0].sequence == heard[0][0].sequence + 2


async def test_wrong_ids_hear_empty_blocks_while_the_book_moves(venue: Venue) -> None:
    async with listening(venue, one_market(venue, 0)) as client:
        market_id = venue.exchange.markets[0].market_id
        before = venue.exchange.sequence(market_id)
        await venue.inject(faults.WrongIds(market=market_id))
        await blocks(venue, 3)
        await client.until(lambda: len(client.heights(1)) == 3)
        assert not any(b.updates for _, b in client.heard if isinstance(b, Block))
        assert venue.exchange.sequence(market_id) == before + 3


@pytest.mark.parametrize("what", ["text", "truncated", "binary", "types"])
async def test_garbage_cannot_be_decoded(venue: Venue, what: Any) -> None:
    async with listening(venue) as client:
        await venue.inject(faults.Garbage(what=what))
        await blocks(venue, 1)
        async with asyncio.timeout(5):
            assert "garbage" in await client.listener.ended


async def test_an_oversized_message_is_valid_but_long(venue: Venue) -> None:
    async with listening(venue) as client:
        await venue.inject(faults.Oversized(size=3 << 20))
        await blocks(venue, 1)
        await client.until(lambda: len(client.heights(1)) == 1)
        await venue.inject(faults.Oversized(size=66 << 20))
        await blocks(venue, 1)
        async with asyncio.timeout(10):
            assert await client.listener.ended


async def test_a_block_error_replaces_a_block_and_the_stream_goes_on(venue: Venue) -> None:
    async with listening(venue) as client:
        await venue.inject(faults.BlockError(after=1))
        await blocks(venue, 3)
        await client.until(lambda: len(client.heard) == 4)
        kinds = [type(said) for _, said in client.heard[1:]]
        assert kinds == [Block, Rejected, Block]


async def test_a_stream_error_ends_the_subscription_not_the_connection(venue: Venue) -> None:
    async with listening(venue, EVERYTHING, one_market(venue, 0)) as client:
        market = venue.exchange.markets[1].market_id
        await venue.inject(faults.StreamError(after=1, market=market))
        await blocks(venue, 3)
        await client.until(lambda: len(client.heights(2)) == 3)
        assert len(client.heights(1)) == 1
        assert (1, Rejected(1, "stream error")) in client.heard


async def test_the_deaf_do_not_answer_but_go_on_talking(venue: Venue) -> None:
    async with listening(venue) as client:
        await venue.inject(faults.Deaf(protocol="ws"))
        client.send(subscribe(2, "other", EVERYTHING))
        await blocks(venue, 2)
        await client.until(lambda: len(client.heights(1)) == 2)
        assert {request_id for request_id, _ in client.heard} == {1}


async def test_disconnect_cuts_and_stop_refuses_until_it_is_over(venue: Venue) -> None:
    async with listening(venue) as client:
        await venue.inject(faults.Disconnect(protocol="ws"))
        async with asyncio.timeout(5):
            assert await client.listener.ended == "connection lost"
    async with listening(venue) as client:
        await venue.inject(faults.Stop(protocol="ws", for_s=0.2))
        with pytest.raises(SourceError):
            await websocket.connect(venue.ws.url, lambda *_: None)
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(SourceError):
                    transport, _ = await websocket.connect(venue.ws.url, lambda *_: None)
                    break
                await asyncio.sleep(0.05)
        transport.disconnect(graceful=False)


async def test_one_subscription_too_many_is_refused_or_never_served(venue: Venue) -> None:
    await venue.inject(faults.StreamLimit(protocol="ws", limit=1))
    async with listening(venue, EVERYTHING, EVERYTHING) as client:
        assert [type(said).__name__ for _, said in client.heard] == ["Confirmed", "Rejected"]
    await venue.inject(faults.StreamLimit(protocol="ws", limit=1, silent=True))
    async with listening(venue, EVERYTHING, EVERYTHING) as client:
        await blocks(venue, 2)
        await client.until(lambda: len(client.heights(1)) == 2)
        assert not client.heights(2)


async def test_the_balancer_refuses_with_a_status(venue: Venue) -> None:
    await venue.inject(faults.Refuse(status=503, calls=1))
    with pytest.raises(SourceError, match="503"):
        await websocket.connect(venue.ws.url, lambda *_: None)
    async with listening(venue):
        pass


async def test_a_slow_reader_is_evicted_in_silence(venue: Venue) -> None:
    async with listening(venue) as client:
        await blocks(venue, 1)
        await client.until(lambda: client.heights(1))
        client.transport.underlying_transport.pause_reading()
        await venue.inject(faults.Oversized(size=2 << 20, blocks=0))
        await blocks(venue, 40)
        venue.heal()
        assert venue.ws.evicted == 1
        client.transport.underlying_transport.resume_reading()
        client.send(subscribe(5, "later", EVERYTHING))
        await client.until(lambda: client.heard[-1][0] == 5)
        heights = client.heights(1)
        assert heights == list(range(heights[0], heights[0] + len(heights)))
        assert len(heights) < 41
        await blocks(venue, 2)
        await client.until(lambda: len(client.heights(5)) == 2)
        assert client.heights(1) == heights


@pytest.fixture
async def query(venue: Venue) -> AsyncIterator[Any]:
    """A stub of the chain's queries."""
    async with grpc.aio.insecure_channel(venue.queries.endpoint) as channel:
        yield QUERY_SERVICE.QueryStub(channel)


async def ask_book(query: Any, venue: Venue, **metadata: str) -> tuple[int, int, dict[str, str]]:
    """Ask for a book; return its sequence, height, and the metadata of the answer."""
    request = QUERY.QuerySpotOrderbookRequest(market_id=venue.exchange.markets[0].market_id)
    call = query.SpotOrderbook(request, timeout=5, metadata=tuple(metadata.items()))
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
        await venue.inject(faults.Stop(for_s=0.2))
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
        await ask_book(QUERY_SERVICE.QueryStub(channel), venue)
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
        call = STREAM_SERVICE.StreamStub(channel).StreamV2(
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
        stub = SPOT_SERVICE.InjectiveSpotExchangeRPCStub(channel)
        call = stub.StreamOrderbookUpdate(SPOT.StreamOrderbookUpdateRequest(market_ids=[market_id]))
        await eventually(lambda: venue.indexer.calls)
        base = venue.exchange.sequence(market_id)
        await venue.inject(faults.Gap(after=1, protocol="indexer"))
        await venue.inject(faults.Duplicate(after=3, protocol="indexer"))
        await blocks(venue, 5)
        heard = [(await call.read()).orderbook_level_updates.sequence - base for _ in range(5)]
        assert heard == [1, 3, 4, 4, 5]
        call.cancel()


async def test_a_halted_chain_makes_no_blocks() -> None:
    options = msgspec.structs.replace(BUSY, block_time_s=0.02)
    async with running(options) as venue:
        await venue.reached(venue.exchange.height + 3)
        await venue.inject(faults.Halt(for_s=0.4))
        height, began = venue.exchange.height, time.monotonic()
        await venue.reached(height + 2)
        assert time.monotonic() - began >= 0.3


def test_a_simulator_takes_faults_and_questions_while_it_runs() -> None:
    with simulator("--markets", "5", "--block-time", "0.05") as running_simulator:
        ticker = running_simulator.markets[0]["ticker"]
        at = running_simulator.inject(faults.Mute(market=ticker, after=3))
        running_simulator.await_height(at + 2)
        assert running_simulator.block(at + 1).height == at + 1
        assert running_simulator.book(ticker, at + 1).height == at + 1
        with pytest.raises(ValueError, match="nowhere"):
            running_simulator.inject(faults.Mute(market="nowhere"))
        with pytest.raises(ValueError, match="KeyError"):
            running_simulator.block(1)
        assert running_simulator.stats()["height"] > at
        new = running_simulator.list_market()
        running_simulator.pause(ticker)
        markets = discover(Endpoints(chain_grpc=(running_simulator.grpc,)))
        assert new["market_id"] in {market.market_id for market in markets}
        assert {m.ticker for m in markets if m.status == "Paused"} == {ticker}
        running_simulator.resume(ticker)
        running_simulator.heal()
        assert running_simulator.process.stdin is not None
        running_simulator.process.stdin.close()
        assert running_simulator.process.wait(10) == 0
