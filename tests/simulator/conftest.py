"""One simulator of 40 markets serves the tests that break nothing."""

from collections.abc import Iterator

import pytest

from tests.simulator.client import Simulator, simulator


@pytest.fixture(scope="session")
def healthy() -> Iterator[Simulator]:
    """A simulator with fast blocks and no faults."""
    with simulator("--markets", "40", "--block-time", "0.15") as running:
        yield running
