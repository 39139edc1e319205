"""The subscriber: bodies in, events out."""

import pytest

from bench.conftest import PerUpdate
from bench.content import TS, content
from bench.stage import aggregator, batches, bodies, joined, publisher
from collector.client.topic_sync import Inbox

pytestmark = pytest.mark.benchmark(group="subscriber")


def test_inbox(per_update: PerUpdate) -> None:
    """Check, decode and hand out book events of 16 levels."""
    made = content()
    frames = bodies(made)

    def run(inbox: Inbox) -> int:
        for topic, body in frames:
            inbox.receive(topic, body, TS)
        return len(inbox.ready)

    with publisher() as socket:
        ready = aggregator(made, socket)
        ready.forwarder.receive(*batches(made.records)[0])
        handed = per_update(run, updates=len(frames), setup=lambda: (joined(ready),))
    assert handed == len(frames)
