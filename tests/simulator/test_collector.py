"""The promise, against the truth: every trade and book change, once, in order, whatever happens."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.simulator.published import Published, await_heights, check_books, check_trades
from tests.system.running import Running, collector


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """A busy exchange."""
    options = ("--markets", "16", "--block-time", "0.1", "--touched", "0.8", "--matches", "6")
    with simulator(*options, "--quiet", "0.1") as running:
        yield running


@pytest.fixture(scope="module")
def running(venue: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector of it, everything live."""
    folder = tmp_path_factory.mktemp("collector")
    config = venue.config(Path(folder), extra="[limits]\nmute_floor_s = 0.6\n")
    with collector(folder, "--shards", "2", "--config", str(config)) as started:
        started.await_live()
        yield started


MISFORTUNES: list[faults.Fault] = [
    faults.Mute(market="INJ0000/USDT", after=1),
    faults.Mute(),
    faults.HeightJump(after=1, blocks=4),
    faults.Gap(market="INJ0000/USDT", blocks=3),
    faults.Gap(market="INJ0000/USDT", what="updates", blocks=2),
    faults.Duplicate(blocks=3),
    faults.Reorder(blocks=5),
    faults.Stall(blocks=4),
    faults.Garbage(),
    faults.Garbage(what="truncated"),
    faults.Oversized(market="INJ0000/USDT"),
    faults.BlockError(blocks=2),
    faults.StreamError(market="INJ0000/USDT"),
    faults.Disconnect(protocol="ws"),
    faults.Stop(protocol="ws", for_s=1.0),
    faults.Halt(for_s=1.5),
]


@pytest.mark.parametrize("fault", MISFORTUNES, ids=repr)
def test_what_is_published_is_the_truth(
    venue: Simulator, running: Running, fault: faults.Fault
) -> None:
    published = Published(running.publish)
    try:
        first = venue.head() + 3
        await_heights(running, published, first)
        venue.inject(fault)
        venue.await_height(venue.head() + 12)
        venue.heal()
        last = venue.head()
        await_heights(running, published, last)
    finally:
        published.close()
    check_trades(venue, published, first, last)
    whole = not isinstance(fault, faults.Gap) or fault.what == "blocks"
    check_books(venue, published, first, last, whole=whole)
