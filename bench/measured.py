"""
What measuring costs the hot path: ``python -m bench.telemetry`` counts this, on against off.

A shard's own code from payload to push and the aggregator's from batch to publication, over real
sockets in one process. "Off" is the same without any record of latency or size. With "on", the
report and the timeline collect the records once in each series, as they do every second.
"""

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import zmq

from bench.content import Content, content
from bench.stage import EPOCH, aggregator
from shards.core.late_changes import MOST
from shards.protocol.settings import Endpoints, Limits, ShardConfig
from shards.settling import Settling
from shards.worker import Shard

_SIZE: Final = {"markets": 20, "blocks": 25}
WARM: Final = 10
"""Blocks before it counts."""
BLOCKS: Final = 5
"""Number of blocks in each series."""


class Series(NamedTuple):
    """Some blocks, batched alike."""

    name: str
    alone: bool
    """A batch for each payload, or one for all of a block."""
    every: int
    """Frames that pass until a batch is timed, as `AdaptiveSampler` has it at some pace."""


SERIES: Final = (
    Series("20 frames", alone=False, every=1),
    Series("one frame, 100 a second", alone=True, every=32),
    Series("one frame, 6 a second and fewer", alone=True, every=1),
)
"""Each runs twice: measured and not measured."""
CUTS: Final = 2 * len(SERIES)


class _AtOnce(Settling):
    """No loop turns here, in which the source could pause: what was put off is done at once."""

    def begin(self) -> None:
        while self._pipeline.has_late:
            self._pipeline.settle(MOST)
        self._push_new()


class _Unmeasured(Shard):
    """A shard that measures nothing."""

    def __init__(self, config: ShardConfig, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        super().__init__(config, context)
        # The aggregator does not measure resent frames.
        self._pusher._resent_below = 1 << 62

    def _push_new(self) -> None:
        self._batch_ts = 0
        records = self._pipeline.take_records()
        if records:
            self._pusher.push(records)
        if self._pipeline.has_requests and self._recovery is not None:
            self._recovery.dispatch()
        if self._pipeline.has_late:
            self._settling.begin()


class Way:
    """The whole way of a payload, in one process."""

    def __init__(
        self, made: Content, context: "zmq.Context[zmq.Socket[bytes]]", *, measured: bool
    ) -> None:
        name = f"inproc://{'measured' if measured else 'bare'}"
        self.pull, publisher = context.socket(zmq.PULL), context.socket(zmq.XPUB)
        self.subscriber = context.socket(zmq.SUB)
        for socket in (self.pull, publisher, self.subscriber):
            socket.setsockopt(zmq.LINGER, 0)
        self.pull.bind(f"{name}/push")
        publisher.bind(f"{name}/publish")
        self.subscriber.setsockopt(zmq.SUBSCRIBE, b"")
        self.subscriber.connect(f"{name}/publish")
        publisher.recv()
        self.aggregator = aggregator(made, publisher)
        config = ShardConfig(
            shard=0,
            epoch=1,
            source="chain-ws",
            endpoints=Endpoints(chain_ws=("ws://127.0.0.1:1",), chain_grpc=("127.0.0.1:1",)),
            markets=tuple(made.markets),
            channels=("book", "trades"),
            push=f"{name}/push",
            link=f"{name}/link",
            limits=Limits(),
        )
        self.shard = (Shard if measured else _Unmeasured)(config, context)
        self._join(made)

    def _join(self, made: Content) -> None:
        """Let every market go live."""
        shard, now = self.shard, time.time_ns()
        for number, market in enumerate(made.markets, start=1):
            shard.subscribed(number, (market.market_id,))
            shard.receive(b'{"jsonrpc":"2.0","id":%d,"result":"success"}' % number, now, True)
        self.block(made.opening)
        for market in made.markets:
            assert shard._pipeline.join(made.books[market.market_id], now)
        shard._pipeline.take_requests()
        shard._settling = _AtOnce(shard._pipeline, shard._push_new)
        if not shard._pusher.link(EPOCH):
            raise AssertionError("the shard knows this aggregator already")
        if isinstance(shard, _Unmeasured):
            shard._pusher._resent_below = 1 << 62
        self.block([])

    def pace(self, every: int) -> None:
        """Time a batch after this many frames: with this clock the pace would be meaningless."""
        for sampler in (
            self.shard._batches.sampler,
            *(h.sampler for h in self.aggregator.telemetry.latencies.shards.values()),
        ):
            sampler.every, sampler.due, sampler._timed, sampler._since = every, 0, 0, 1 << 62

    def second(self) -> None:
        """Do what is done with the records every second."""
        if not isinstance(self.shard, _Unmeasured):
            self.shard._batches.report(Limits().batch_frames, held_blocks=0, requests=0)
            self.aggregator.telemetry.latencies.take_recent(time.time_ns())

    def block(self, payloads: list[bytes], *, alone: bool = False) -> None:
        """Take one block's payloads all the way: in one batch, or each alone."""
        shard, now = self.shard, time.time_ns()
        for payload in payloads:
            # With this clock no batch becomes old, however slowly callgrind runs.
            shard.receive(payload, time.time_ns() if alone else now, alone)
        shard._push_new()
        while self.pull.poll(0):
            self.aggregator.forwarder.receive(self.pull.recv(), self.pull.recv())
        while self.subscriber.poll(0):
            self.subscriber.recv_multipart()


@contextmanager
def ways() -> Iterator[tuple[list[Way], Content]]:
    """Make both."""
    made = content(**_SIZE)
    with zmq.Context() as context:
        made_ways = [Way(made, context, measured=measured) for measured in (True, False)]
        try:
            yield made_ways, made
        finally:
            context.destroy(linger=0)


def main() -> None:
    """Take the same blocks both ways, cut by calls that callgrind can see."""
    gc.disable()
    with ways() as (both, made):
        # The first blocks fill caches and let the interpreter specialise its instructions.
        for payloads in made.blocks[:WARM]:
            for way in both:
                way.block(payloads)
                way.second()
        for number, series in enumerate(SERIES):
            begin = WARM + number * BLOCKS
            for way in both:
                way.pace(series.every)
                os.getloadavg()
                for payloads in made.blocks[begin : begin + BLOCKS]:
                    way.block(payloads, alone=series.alone)
                way.second()
                os.getloadavg()


if __name__ == "__main__":
    main()
