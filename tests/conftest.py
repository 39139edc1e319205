"""One devnet serves all system tests of a run: booting it is the dear part."""

from collections.abc import Iterator

import pytest

from tests.system.running import Devnet, devnet


@pytest.fixture(scope="session")
def node() -> Iterator[Devnet]:
    """A devnet of 12 spot and 4 perpetual markets, two of them quiet, under normal traffic."""
    with devnet("--quiet-markets", "2", "--block-time", "0.5") as running:
        yield running
