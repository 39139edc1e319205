"""The aggregator: batches in, bodies out."""

import pytest

from bench.conftest import PerUpdate
from bench.content import content
from bench.stage import aggregator, batches, publisher
from collector.aggregator.aggregator import Aggregator

pytestmark = pytest.mark.benchmark(group="aggregator")


def test_receive(per_update: PerUpdate) -> None:
    """Forward batches of 20 frames; nobody listens to the socket."""
    made = content()
    opening, *rest = batches(made.records)

    def run(ready: Aggregator) -> int:
        for batch in rest:
            ready.forwarder.receive(*batch)
        return ready.publisher.published

    with publisher() as socket:

        def fresh() -> tuple[Aggregator]:
            ready = aggregator(made, socket)
            ready.forwarder.receive(*opening)
            return (ready,)

        assert per_update(run, updates=made.updates, setup=fresh) >= made.updates
