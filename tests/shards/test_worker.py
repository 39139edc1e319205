"""A shard's work on books, which waits until the source pauses."""

import asyncio
import time

import zmq

from shards.protocol import frames
from shards.protocol.frames import KEYFRAME, Record
from shards.protocol.settings import Endpoints, Limits, ShardConfig
from shards.worker import Shard
from tests.shards.chain import FIRST, MARKETS, Chain

CHAIN = Chain(1, 60)
EPOCH = 7


async def test_keyframes_follow_when_the_source_pauses() -> None:
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
            await _play(shard, pull)
        finally:
            await shard.aclose()


async def _play(shard: Shard, pull: "zmq.Socket[bytes]") -> None:
    shard._pusher.link(EPOCH)
    for number, market in enumerate(MARKETS, start=1):
        shard.subscribed(number, (market.market_id,))
        shard.receive(b'{"jsonrpc":"2.0","id":%d,"result":"success"}' % number, 1, True)
        shard.receive(CHAIN.payload(number, FIRST, (market.market_id,)), 1, True)
        shard._pipeline.join(CHAIN.snapshot(market.market_id, FIRST), 1)
    shard._pipeline.take_requests()
    for height in range(FIRST + 1, FIRST + 6):
        for number, market in enumerate(MARKETS, start=1):
            shard.receive(CHAIN.payload(number, height, (market.market_id,)), 1, True)
    assert shard._settling.is_running
    deadline = time.monotonic() + 20.0
    while shard._pipeline.has_late:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
    received: list[Record] = []
    while pull.poll(0):
        pull.recv()
        received += frames.decode_records(pull.recv())
    for market in MARKETS:
        of_book = [r for r in received if r.topic == f"book.{market.symbol}."]
        last = CHAIN.books[FIRST + 5][market.market_id].sequence
        assert [r.sequence for r in of_book if not r.flags & KEYFRAME][-1] == last
        assert of_book[-1].flags & KEYFRAME
        assert of_book[-1].sequence == last
