"""
The modules to read for following a book update from the socket to the subscriber.

A market's next change is traced through a pipeline, a pusher, an aggregator and a subscriber's
inbox. The four modules around them, which have the sockets, are counted without being traced.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import zmq

from bench.content import STEP, TS, content
from bench.stage import aggregator, batches, bodies, joined, publisher
from shards.protocol.settings import Limits
from shards.push import Pusher

SHELLS: Final = {
    "shards.net.websocket",
    "shards.worker",
    "collector.aggregator.process",
    "collector.client.subscriber",
}
MEASURING: Final = {
    "collector.aggregator.state.shard_sessions",
    "collector.aggregator.telemetry.latency",
    "shards.protocol.histograms",
}
"""They count batches and measure times; the update does not depend on them."""
MOST: Final = 16


@contextmanager
def traced(names: set[str]) -> Iterator[None]:
    """Add the modules whose functions are called."""

    def note(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.startswith(("shards.", "collector.")):
            names.add(name)

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


def in_the_shard(names: set[str]) -> None:
    """Trace one payload up to the aggregator's PULL."""
    made = content(markets=20, blocks=4)
    pipeline, payloads = made.pipeline(), made.payloads
    for payload in payloads[:25]:
        pipeline.receive(payload, TS)
    pipeline.take_records()
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.bind("inproc://pull")
        pusher = Pusher(
            context,
            "inproc://pull",
            shard=0,
            epoch=1,
            limits=Limits(),
            on_drop=lambda records: None,
        )
        pusher.link(1)
        with traced(names):
            pipeline.receive(payloads[25], TS + STEP)
            records = pipeline.take_records()
            pusher.push(records)
        assert len(records) == 1
        assert len([pull.recv(), pull.recv()]) == 2
        pusher.close()


def in_aggregator_and_subscriber(names: set[str]) -> None:
    """Trace one batch up to the subscribers, and one frame in a subscriber."""
    made = content(markets=20, blocks=4)
    opening, *rest = batches(made.records)
    with publisher() as socket:
        ready = aggregator(made, socket)
        ready.forwarder.receive(*opening)
        inbox = joined(ready)
        # A topic's first frame creates it.
        *earlier, last = rest
        for batch in earlier:
            ready.forwarder.receive(*batch)
        with traced(names):
            ready.forwarder.receive(*last)
    frames = bodies(made)
    for topic, body in frames[:40]:
        inbox.receive(topic, body, TS)
    before = len(inbox.ready)
    with traced(names):
        inbox.receive(*frames[40], TS)
    assert len(inbox.ready) == before + 1


def test_few_modules_are_on_the_way_of_a_book_update() -> None:
    """Sixteen carry it."""
    names: set[str] = set()
    in_the_shard(names)
    in_aggregator_and_subscriber(names)
    carrying = (names | SHELLS) - MEASURING
    assert len(carrying) <= MOST, sorted(carrying)
    assert names >= MEASURING
