"""Faults as a client of the WebSocket sees them."""

import asyncio
import contextlib
import time
from typing import Any

import msgspec
import pytest

from collector.markets.discovery import discover
from shards.net import websocket
from shards.protocol.errors import SourceError
from shards.protocol.events import Block, Rejected
from shards.protocol.settings import Endpoints
from tests.simulator import faults
from tests.simulator.client import simulator
from tests.simulator.listening import EVERYTHING, subscribe
from tests.simulator.scripted import BUSY, HEARD, blocks, listening, one_market
from tests.simulator.venue import Venue, running


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
        async with asyncio.timeout(30):
            assert "garbage" in await client.listener.ended


async def test_an_oversized_message_is_valid_but_long(venue: Venue) -> None:
    async with listening(venue) as client:
        await venue.inject(faults.Oversized(size=3 << 20))
        await blocks(venue, 1)
        await client.until(lambda: len(client.heights(1)) == 1)
        await venue.inject(faults.Oversized(size=66 << 20))
        await blocks(venue, 1)
        async with asyncio.timeout(60):
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
        async with asyncio.timeout(30):
            assert await client.listener.ended == "connection lost"
    async with listening(venue) as client:
        await venue.inject(faults.Stop(protocol="ws", for_s=1.0))
        with pytest.raises(SourceError):
            await websocket.connect(venue.ws.url, lambda *_: None)
        async with asyncio.timeout(30):
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


async def test_a_halted_chain_makes_no_blocks() -> None:
    options = msgspec.structs.replace(BUSY, block_time_s=0.02)
    async with running(options) as venue:
        await venue.reached(venue.exchange.height + 3)
        began = time.monotonic()
        await venue.inject(faults.Halt(for_s=0.4))
        height = venue.exchange.height
        await venue.reached(height + 2)
        assert time.monotonic() - began >= 0.4


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
        assert running_simulator.process.wait(90) == 0
