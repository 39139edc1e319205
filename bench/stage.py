"""The upper parts of a collector in one process, for benches of one part at a time."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from typing import Final

import msgspec
import zmq

from bench.content import TS, Content
from collector.aggregator.aggregator import Aggregator
from collector.aggregator.forwarder import Publisher
from collector.client.topic_filter import Wanted
from collector.client.topic_sync import Inbox
from collector.settings.parts import AggregatorConfig
from shards.protocol import frames
from shards.protocol.frames import BatchHeader, Record
from shards.protocol.settings import Endpoints
from shards.push import plain_send
from tests.shards.reported import market_report, report

EPOCH: Final = 1_000
_encode: Final = msgspec.msgpack.encode


@contextlib.contextmanager
def publisher(heard: "list[zmq.Socket[bytes]] | None" = None) -> "Iterator[zmq.Socket[bytes]]":
    """Open an XPUB socket; the list gets a subscriber to it, otherwise there is none."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as xpub:
        xpub.setsockopt(zmq.SNDHWM, 0)
        xpub.bind("inproc://bench")
        if heard is None:
            yield xpub
            return
        with context.socket(zmq.SUB) as sub:
            sub.setsockopt(zmq.RCVHWM, 0)
            sub.setsockopt(zmq.SUBSCRIBE, b"")
            sub.connect("inproc://bench")
            xpub.recv()
            heard.append(sub)
            yield xpub


def aggregator(content: Content, socket: "zmq.Socket[bytes]") -> Aggregator:
    """Return an aggregator that knows shard 0."""
    config = AggregatorConfig(
        epoch=EPOCH,
        publish=(),
        pull="",
        link="",
        folder=tempfile.gettempdir(),
        markets=tuple(content.markets),
        endpoints=Endpoints(),
        every_market=True,
    )
    made = Aggregator(config, Publisher(plain_send(socket)), clock=time.time_ns)
    # Every market has its owner, as always but in a run's first second.
    made.report(report(shard=0, epoch=1, fresh=True), 0.0)
    owned = (market_report(market.market_id, 1, 1) for market in content.markets)
    made.report(report(*owned, shard=0, epoch=1), 0.0)
    return made


def batches(blocks: list[list[Record]]) -> list[tuple[bytes, bytes]]:
    """Encode records as the pusher sends them, a batch per block."""
    made = []
    sequence = 1
    for records in blocks:
        header = BatchHeader(frames.VERSION, 0, 1, EPOCH, sequence, TS, False)
        made.append((_encode(header), _encode(records)))
        sequence += len(records)
    return made


def bodies(content: Content) -> list[tuple[bytes, bytes]]:
    """Return what an aggregator publishes after the opening: topics and bodies."""
    opening, *rest = batches(content.records)
    heard: list[zmq.Socket[bytes]] = []
    with publisher(heard) as socket:
        made = aggregator(content, socket)
        made.forwarder.receive(*opening)
        skipped = made.publisher.published
        for batch in rest:
            made.forwarder.receive(*batch)
        frames_ = [(heard[0].recv(), heard[0].recv()) for _ in range(made.publisher.published)]
    return frames_[skipped:]


def joined(made: Aggregator) -> Inbox:
    """Return a subscriber's inbox that has all books as this aggregator knows them."""
    inbox = Inbox(Wanted(("*",), ("book",)))
    now = 0.0
    while True:
        inbox.tick(now)
        if not inbox.requests:
            break
        while inbox.requests:
            answer = made.publisher.replay.answer(inbox.requests.popleft(), EPOCH, 1_000)
            inbox.reply(answer, TS)
    inbox.ready.clear()
    return inbox
