"""A collector of each size; with ``--benchmark-disable`` one tiny size, to see that it all works."""

from collections.abc import Iterator
from typing import Final

import pytest

from bench import rig
from bench.rig import Feeder
from bench.stress.loads import Loaded, Size
from tests.scheduling import allow_hours

_MARKETS: Final = (10, 30, 100, 300, 1_000, 3_000)
_SHARDS: Final = (1, 2, 4)
_TINY: Final = Size(8, 2)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every load every size, and each size one collector."""
    if "loaded" in metafunc.fixturenames:
        sizes = [Size(markets, shards) for shards in _SHARDS for markets in _MARKETS]
        chosen = [_TINY] if metafunc.config.getoption("benchmark_disable") else sizes
        metafunc.parametrize("loaded", chosen, ids=str, indirect=True, scope="module")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let a load in full take its time: that of the overload is a quarter of an hour with its recovery."""
    if not item.config.getoption("benchmark_disable"):
        allow_hours()


@pytest.fixture(scope="module")
def loaded(request: pytest.FixtureRequest) -> Iterator[Loaded]:
    """A collector of this size, live."""
    size: Size = request.param
    with (
        Feeder(markets=size.markets) as feeder,
        rig.live(feeder, shards=size.shards, times="times", goes_first=True) as bench,
    ):
        yield Loaded(size, bench)
