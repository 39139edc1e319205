"""One simulator of 40 markets serves the tests that break nothing; the others make their own."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.simulator.client import Simulator, simulator
from tests.simulator.scripted import BUSY
from tests.simulator.venue import Venue, running


@pytest.fixture(scope="session")
def healthy() -> Iterator[Simulator]:
    """A simulator with fast blocks and no faults."""
    with simulator("--markets", "40", "--block-time", "0.15") as running:
        yield running


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    """An exchange whose blocks are made by the test."""
    async with running(BUSY, paced=False) as running_venue:
        yield running_venue
