"""Each endpoint is asked which chain it has before it is believed: queries, event providers, streams."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from collector.markets import discovery
from shards.adapters.injective_chain.lost_blocks import EventProviderReplay
from shards.adapters.injective_chain.snapshots import Snapshots
from shards.adapters.injective_chain.witnesses import EventWitness, QueryWitness
from shards.adapters.interface import BlockGone
from shards.adapters.messages import INJECTIVE
from shards.net.access import Access
from shards.net.nodes import Nodes
from shards.protocol.chain import Chain
from shards.protocol.errors import ConfigError, SourceError
from shards.protocol.settings import Endpoints, Market
from tests.simulator import faults
from tests.simulator.exchange import Exchange
from tests.simulator.venue import Options, Venue, running

_EVENTS: Any = INJECTIVE.package("event_provider_api")


def options(**more: object) -> Options:
    clock_ms = int(time.time() * 1_000)
    return Options(markets=4, clock_ms=clock_ms, block_time_s=0.001, **more)  # type: ignore[arg-type]


async def grow(venue: Venue, count: int) -> None:
    for _ in range(count):
        await venue.make_block()


def market_of(venue: Venue) -> Market:
    found = venue.exchange.markets[0]
    return Market(found.market_id, found.ticker, found.ticker, "spot")


def asked(rpc: Venue, *queries: Venue) -> Nodes:
    access = Access()
    return Nodes([rpc.rpc.url], access, [QueryWitness(v.queries.endpoint, access) for v in queries])


@contextlib.asynccontextmanager
async def books_of(nodes: Nodes, *venues: Venue) -> AsyncIterator[Snapshots]:
    books = Snapshots([venue.queries.endpoint for venue in venues], Access(), nodes)
    try:
        yield books
    finally:
        await books.close()
        await nodes.aclose()


async def test_a_query_server_of_another_network_is_refused_by_name() -> None:
    async with (
        running(options(), paced=False) as ours,
        running(options(chain_id="injective-888"), paced=False) as other,
    ):
        nodes = asked(ours, other, ours)
        async with books_of(nodes, other, ours) as books:
            await nodes.look()
            found = await books.fetch(market_of(ours))
            assert found.height == ours.exchange.height
            assert other.queries.queries == 0
            (row,) = [r for r in nodes.reports() if r.endpoint == other.queries.endpoint]
            assert (row.fit, row.role, row.cause) == (False, "queries", "foreign")
            assert "network injective-888, not injective-777" in row.reason


async def test_a_query_server_is_asked_for_its_chain_before_its_book_is_believed() -> None:
    async with (
        running(options(), paced=False) as ours,
        running(options(chain_id="injective-888"), paced=False) as other,
    ):
        nodes = asked(ours, other)
        async with books_of(nodes, other) as books:
            # It is silent when all are looked at, and answers when its book is wanted.
            await other.inject(faults.Refuse(protocol="grpc", status=503, calls=1))
            await nodes.look()
            with pytest.raises(SourceError, match=r"not the chain being collected.*888"):
                await books.fetch(market_of(ours))
            assert other.queries.queries == 0


async def test_a_query_server_of_the_same_id_with_another_genesis_is_refused() -> None:
    async with running(Options(markets=4, block_time_s=0.001), paced=False) as venue:
        nodes = asked(venue, venue)
        async with books_of(nodes, venue):
            await nodes.look()
            assert await nodes.vet(venue.queries.endpoint, "queries") == ""
            await venue.begin_again(9)
            await grow(venue, 3)
            # Its heights are lower than any that is known, so the time of its newest block tells.
            nodes.nodes[1].view = None
            assert "is later than our block" in await nodes.vet(venue.queries.endpoint, "queries")


async def test_of_two_query_servers_the_one_at_the_head_is_asked_first() -> None:
    same = options()
    async with running(same, paced=False) as behind, running(same, paced=False) as going:
        await grow(behind, 2)
        await grow(going, 12)
        nodes = asked(going, behind, going)
        async with books_of(nodes, behind, going) as books:
            await nodes.look()
            found = await books.fetch(market_of(going), since=going.exchange.height)
            assert found.height == going.exchange.height
            assert behind.queries.queries == 0


async def test_a_query_server_that_falls_behind_alone_costs_a_book_one_question_more() -> None:
    same = options()
    async with running(same, paced=False) as behind, running(same, paced=False) as going:
        nodes = asked(going, behind, going)
        async with books_of(nodes, behind, going) as books:
            # When all were looked at, it was at the head.
            await nodes.look()
            await grow(going, 12)
            market, since = market_of(going), going.exchange.height
            found = await books.fetch(market, since=since)
            assert found.height == since
            assert (behind.queries.queries, going.queries.queries) == (1, 1)
            # The next book goes to the other at once.
            await books.fetch(market, since=since)
            assert (behind.queries.queries, going.queries.queries) == (1, 2)


async def test_a_query_server_that_cannot_tell_is_believed_and_named() -> None:
    async with running(options(), paced=False) as ours, _serving({}) as mute:
        access = Access()
        nodes = Nodes([ours.rpc.url], access, [QueryWitness(mute, access)])
        await nodes.look()
        assert await nodes.vet(mute, "queries") == ""
        row = nodes.reports()[1]
        assert (row.fit, row.cause) == (True, "untold")
        assert "UNIMPLEMENTED" in row.reason
        await nodes.aclose()


@pytest.mark.parametrize("height", ["", "-1", "1.5", "abc", "٣", "1" * 40, "1_0", " 7"])
async def test_rubbish_for_a_height_is_a_failure_of_that_server(height: str) -> None:
    async def book(request: Any, context: Any) -> Any:
        if height.isascii():
            await context.send_initial_metadata([("x-cosmos-block-height", height)])
        else:
            await context.abort(grpc.StatusCode.INTERNAL, "no header may have it")
        return INJECTIVE.message("injective.exchange.v2.QuerySpotOrderbookResponse")()

    request = INJECTIVE.message("injective.exchange.v2.QuerySpotOrderbookRequest")
    service = {"injective.exchange.v2.Query": {"SpotOrderbook": _unary(book, request)}}
    async with _serving(service) as server:
        books = Snapshots([server], Access())
        market = Market("0x" + "1" * 64, "A/B", "A-B", "spot")
        with pytest.raises(SourceError):
            await books.fetch(market)
        await books.close()


# ---- the listing of markets -------------------------------------------------------------


async def listed(rpc: Venue, *queries: Venue) -> list[str]:
    """List the markets as `collector start` does; return their ids."""
    endpoints = Endpoints(rpc=(rpc.rpc.url,), chain_grpc=tuple(v.queries.endpoint for v in queries))
    found = await asyncio.to_thread(discovery.discover, endpoints, patience_s=0.0)
    return [market.market_id for market in found]


async def test_markets_are_not_listed_by_another_network() -> None:
    async with (
        running(options(), paced=False) as ours,
        running(
            Options(markets=7, block_time_s=0.001, chain_id="injective-888"), paced=False
        ) as other,
    ):
        due = {market.market_id for market in ours.exchange.markets}
        assert set(await listed(ours, other, ours)) == due
        with pytest.raises(ConfigError, match="of network injective-888, not injective-777 as"):
            await listed(ours, other)
        # No endpoint names another network, so nothing contradicts it.
        await ours.inject(faults.Stop(protocol="rpc"))
        assert len(await listed(ours, other)) == 7


async def test_markets_are_not_listed_by_a_server_that_is_far_behind() -> None:
    same = options()
    async with running(same, paced=False) as behind, running(same, paced=False) as going:
        await grow(going, 30)
        going.exchange.list_market()
        await grow(going, 1)
        servers = (behind.queries.endpoint, going.queries.endpoint)
        endpoints = Endpoints(rpc=(going.rpc.url,), chain_grpc=servers)
        look = functools.partial(discovery.list_network, patience_s=0.0)
        head = going.exchange.height
        found = await asyncio.to_thread(look, endpoints, head=head)
        assert (len(found.markets), found.height) == (len(going.exchange.markets), head)
        alone = Endpoints(rpc=(going.rpc.url,), chain_grpc=servers[:1])
        with pytest.raises(ConfigError, match=rf"are those of block {head - 31}, 31 ago"):
            await asyncio.to_thread(look, alone, head=head)
        # A few blocks behind is acceptable: the list counts up to the block that it names.
        found = await asyncio.to_thread(look, alone, head=head - 15)
        assert (len(found.markets), found.height) == (len(behind.exchange.markets), head - 31)


# ---- event providers --------------------------------------------------------------------


@pytest.mark.parametrize("is_ours", [True, False])
async def test_an_event_provider_is_held_against_a_block_that_is_known(is_ours: bool) -> None:
    async with running(options(), paced=False) as ours, running(options(), paced=False) as other:
        other.exchange.begin_again(3)
        for _ in range(2_000):
            other.exchange.next_block(int(time.time() * 1_000))
        await grow(ours, 5)
        shown = ours.exchange if is_ours else other.exchange
        async with _provider(shown) as provider:
            access = Access()
            nodes = Nodes([ours.rpc.url], access, [EventWitness(provider, access)])
            await nodes.look()
            await grow(ours, 3)

            async def vet() -> str:
                return await nodes.vet(provider, "events")

            replay = EventProviderReplay(provider, vet=vet)
            height = ours.exchange.height - 1
            if is_ours:
                assert (await replay.fetch(height)).height == height
            else:
                with pytest.raises(BlockGone, match="made at another time"):
                    await replay.fetch(height)
                nodes.nodes[1].asked_at = float("-inf")
                assert await nodes.look() == ours.exchange.height
                assert nodes.reports()[1].cause == "foreign"
            await replay.aclose()
            await nodes.aclose()


async def test_an_event_provider_that_shows_no_block_of_ours_is_not_believed() -> None:
    async with running(options(), paced=False) as ours:
        nothing = Exchange(1, markets=1)
        async with _provider(nothing, height=5_000) as provider:
            access = Access()
            nodes = Nodes([ours.rpc.url], access, [EventWitness(provider, access)])
            await nodes.look()
            with pytest.raises(SourceError, match="none of its blocks could be held against"):
                await nodes.vet(provider, "events")
            # Nor does its word move the head.
            assert await nodes.look() == ours.exchange.height
            await nodes.aclose()


@contextlib.asynccontextmanager
async def _provider(exchange: Exchange, height: int = 0) -> AsyncIterator[str]:
    """An event provider of an exchange: heights and times, no events."""

    async def latest(request: Any, context: Any) -> Any:
        answer = _EVENTS.GetLatestHeightResponse()
        answer.data.height = height or exchange.height
        return answer

    async def block(request: Any, context: Any) -> Any:
        answer = _EVENTS.GetABCIBlockEventsAtHeightResponse()
        if exchange.oldest <= request.height <= exchange.height:
            answer.raw_block.height = request.height
            answer.raw_block.block_timestamp = exchange.block(request.height).time_ms
        return answer

    methods = {
        "GetLatestHeight": _unary(latest, _EVENTS.GetLatestHeightRequest),
        "GetABCIBlockEventsAtHeight": _unary(block, _EVENTS.GetABCIBlockEventsAtHeightRequest),
    }
    async with _serving({"event_provider_api.EventProviderAPI": methods}) as endpoint:
        yield endpoint


def _unary(method: Any, request: Any) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        method, request.FromString, lambda response: response.SerializeToString()
    )


@contextlib.asynccontextmanager
async def _serving(services: dict[str, dict[str, grpc.RpcMethodHandler]]) -> AsyncIterator[str]:
    server = grpc.aio.server()
    for name, methods in services.items():
        handler = grpc.method_handlers_generic_handler(name, methods)
        server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def test_a_new_generation_forgets_what_was_held_against_nodes() -> None:
    async def run() -> None:
        nodes = Nodes(["http://127.0.0.1:1"], Access())
        nodes.refused("ws://a", "of another chain")
        assert nodes.reports()[-1].role == "stream"
        nodes.knows(Chain("injective-1", 7))
        assert [row.role for row in nodes.reports()] == ["rpc"]
        await nodes.aclose()

    asyncio.run(run())
