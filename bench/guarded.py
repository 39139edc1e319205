"""
The parts that the guard counts, each as repeatable work on fixed payloads.

Run as a program it does them one after the other, with a call of `os.getloadavg` before
each and after the last: that is where callgrind cuts its counts.
"""

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from bench import bare
from bench.content import TS, content
from bench.stage import aggregator, batches, bodies, joined, publisher
from shards.adapters.injective_chain import ws_decoder

_SIZE: Final = {"markets": 20, "blocks": 4}


class Part(NamedTuple):
    """One thing that is counted."""

    name: str
    fresh: Callable[[], Callable[[], object]]
    """Makes the work; called again for each run of it."""
    per: int
    """Updates or messages in it."""


def parts() -> "Iterator[Part]":
    """Yield everything that is counted."""
    made, quiet = content(**_SIZE), content(**_SIZE, touched=0.0)
    yield Part("yardstick", lambda: lambda: list(map(bare.decode, made.payloads)), made.updates)
    yield Part("decode", lambda: lambda: list(map(ws_decoder.decode, made.payloads)), made.updates)
    yield Part("pipeline, an update", lambda: _pipeline(**_SIZE), made.updates)
    yield Part(
        "pipeline, an empty block", lambda: _pipeline(**_SIZE, touched=0.0), len(quiet.payloads)
    )
    opening, *rest = batches(made.records)
    with publisher() as socket:

        def forward() -> Callable[[], object]:
            ready = aggregator(made, socket)
            ready.forwarder.receive(*opening)
            return lambda: _do(lambda batch: ready.forwarder.receive(*batch), rest)

        yield Part("aggregator", forward, made.updates)
        frames = bodies(made)

        def subscribe() -> Callable[[], object]:
            ready = aggregator(made, socket)
            ready.forwarder.receive(*opening)
            inbox = joined(ready)
            return lambda: _do(lambda frame: inbox.receive(frame[0], frame[1], TS), frames)

        yield Part("subscriber", subscribe, len(frames))


def _do(call: Callable[[Any], object], things: list[Any]) -> None:
    for thing in things:
        call(thing)


def _pipeline(markets: int, blocks: int, touched: float = 1.0) -> Callable[[], object]:
    made = content(markets, blocks, touched)
    pipeline, payloads = made.pipeline(), made.payloads
    return lambda: _do(lambda payload: pipeline.receive(payload, TS), payloads)


def main() -> None:
    """Do everything once, cut by calls that callgrind can see."""
    gc.disable()
    for part in parts():
        # The first time fills caches and lets the interpreter specialise its instructions.
        for _ in range(2):
            part.fresh()()
        work = part.fresh()
        os.getloadavg()
        work()
        os.getloadavg()


if __name__ == "__main__":
    main()
