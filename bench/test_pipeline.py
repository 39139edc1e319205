"""A shard's whole core: payload in, records out."""

import pytest

from bench import bare
from bench.conftest import PerUpdate
from bench.content import TS, Content, content
from shards.core.blocks import Blocks
from shards.core.pipeline import Pipeline

pytestmark = pytest.mark.benchmark(group="pipeline, 16 levels an update")


def receive_all(pipeline: Pipeline[Blocks], blocks: list[list[bytes]]) -> int:
    """Receive block by block; return how many frames they made."""
    receive = pipeline.receive
    frames = 0
    for block in blocks:
        for payload in block:
            receive(payload, TS)
        frames += len(pipeline.take_records())
    return frames


def _time(per_update: PerUpdate, made: Content, updates: int) -> int:
    blocks = made.blocks
    frames: int = per_update(receive_all, updates=updates, setup=lambda: (made.pipeline(), blocks))
    return frames


def test_yardstick(per_update: PerUpdate) -> None:
    """The same payloads, only decoded, by bare msgspec."""
    made = content()
    per_update(lambda: [bare.decode(payload) for payload in made.payloads], updates=made.updates)


def test_updates(per_update: PerUpdate) -> None:
    """Messages with one update each."""
    made = content()
    assert _time(per_update, made, made.updates) >= made.updates


def test_empty_blocks(per_update: PerUpdate) -> None:
    """Messages without any."""
    made = content(touched=0.0)
    assert _time(per_update, made, len(made.payloads)) == 0


def test_a_third_touched(per_update: PerUpdate) -> None:
    """What ordinary traffic looks like; counted by message."""
    made = content(touched=0.3)
    assert _time(per_update, made, len(made.payloads)) >= made.updates
