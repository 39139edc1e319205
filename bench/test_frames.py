"""Encoding and decoding frames."""

import pytest

from bench.conftest import PerUpdate
from bench.content import content
from bench.stage import bodies
from shards.protocol import frames
from shards.protocol.events import Book

pytestmark = pytest.mark.benchmark(group="frames")


def _events() -> list[Book]:
    found = []
    for _, body in bodies(content()):
        event = frames.decode(body)[1]
        assert isinstance(event, Book)
        found.append(event)
    return found


def test_encode_event(per_update: PerUpdate) -> None:
    """Encode book events of 16 levels."""
    events = _events()
    per_update(lambda: [frames.encode(event) for event in events], updates=len(events))


def test_encode_records(per_update: PerUpdate) -> None:
    """Encode whole batches of records."""
    records = content().records[1:]
    updates = sum(len(batch) for batch in records)
    per_update(lambda: [frames.encode(batch) for batch in records], updates=updates)


def test_decode_records(per_update: PerUpdate) -> None:
    """Decode batches, as the aggregator does."""
    batches = [frames.encode(batch) for batch in content().records[1:]]
    updates = sum(len(batch) for batch in content().records[1:])
    per_update(lambda: [frames.decode_records(batch) for batch in batches], updates=updates)


def test_decode_body(per_update: PerUpdate) -> None:
    """Decode published bodies, as a subscriber does."""
    made = [body for _, body in bodies(content())]
    per_update(lambda: [frames.decode(body) for body in made], updates=len(made))
