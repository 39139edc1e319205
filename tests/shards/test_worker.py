"""A shard's work on books, which waits until the source pauses."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import zmq

from shards import settling
from shards.protocol import frames
from shards.protocol.frames import KEYFRAME, Record
from shards.protocol.settings import Endpoints, Limits, ShardConfig
from shards.worker import Shard
from tests.shards.chain import FIRST, MARKETS, Chain

CHAIN = Chain(1, 60)
EPOCH = 7


@contextlib.asynccontextmanager
async def joined() -> AsyncIterator[tuple[Shard, "zmq.Socket[bytes]"]]:
    """A shard whose markets are live at FIRST, and the other end of its PUSH socket."""
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.bind("inproc://push")
        config = ShardConfig(
            shard=0,
            epoch=1,
            source="chain-ws",
            endpoints=Endpoints(chain_ws=("ws://127.0.0.1:1",), chain_grpc=("127.0.0.1:1",)),
            markets=MARKETS,
            channels=("book", "trades"),
            push="inproc://push",
            link="inproc://link",
            limits=Limits(keyframe_every=1),
        )
        shard = Shard(config, context)
        try:
            shard._pusher.link(EPOCH)
            for number, market in enumerate(MARKETS, start=1):
                shard.subscribed(number, (market.market_id,))
                shard.receive(b'{"jsonrpc":"2.0","id":%d,"result":"success"}' % number, 1, True)
                hear(shard, number, FIRST)
                shard._pipeline.join(CHAIN.snapshot(market.market_id, FIRST), 1)
            shard._pipeline.take_requests()
            yield shard, pull
        finally:
            await shard.aclose()


def hear(shard: Shard, number: int, height: int) -> None:
    """One market hears a block."""
    shard.receive(CHAIN.payload(number, height, (MARKETS[number - 1].market_id,)), 1, True)


def change(shard: Shard) -> None:
    """Each market hears blocks until its book has changed once."""
    for number, market in enumerate(MARKETS, start=1):
        height, before = FIRST, CHAIN.books[FIRST][market.market_id].sequence
        while CHAIN.books[height][market.market_id].sequence == before:
            height += 1
            hear(shard, number, height)


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def test_keyframes_follow_when_the_source_pauses() -> None:
    async with joined() as (shard, pull):
        change(shard)
        assert shard._settling.is_running
        await until(lambda: not shard._pipeline.has_late)
        received: list[Record] = []
        while pull.poll(0):
            pull.recv()
            received += frames.decode_records(pull.recv())
        for market in MARKETS:
            changed, keyframe = [r for r in received if r.topic == f"book.{market.symbol}."][-2:]
            assert (changed.flags & KEYFRAME, keyframe.flags & KEYFRAME) == (0, KEYFRAME)
            assert changed.sequence == keyframe.sequence


async def test_nothing_is_worked_off_while_the_source_sends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with joined() as (shard, _):
        change(shard)
        # The next wait, after the payload below, does not end in this test.
        monkeypatch.setattr(settling, "_PAUSE_S", 600.0)
        hear(shard, 1, FIRST)
        await until(lambda: shard._settling._payloads == shard._pipeline.payloads)
        assert shard._pipeline.has_late


@contextlib.contextmanager
def errors_of_the_loop() -> Iterator[list[dict[str, Any]]]:
    """What goes wrong in the callbacks of the running loop."""
    found: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: found.append(context))
    yield found
    loop.set_exception_handler(None)


async def test_a_shard_that_ends_before_the_pause_leaves_no_work_behind() -> None:
    with errors_of_the_loop() as errors:
        async with joined() as (shard, _):
            change(shard)
            assert shard._settling.is_running
        # Longer than the wait for a pause: the socket is closed now.
        await asyncio.sleep(10 * settling._PAUSE_S)
    assert errors == []


async def test_an_error_in_one_step_does_not_end_the_work_for_good() -> None:
    with errors_of_the_loop() as errors:
        async with joined() as (shard, _):
            book = shard._pipeline.feeds[MARKETS[0].market_id].sync.book
            shard._pipeline._late.defer(book, b"no event")
            shard._push_new()
            await until(lambda: bool(errors))
            shard._push_new()
            await until(lambda: not shard._pipeline.has_late)
    assert len(errors) == 1
