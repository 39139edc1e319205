"""From ten markets to three hundred, over four shards: all covered, every trade, also after a cut."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.simulator.published import Published, await_heights, check_books, check_trades
from tests.system.running import Running, collector, eventually

SIZES = [
    ("chain-ws", 10),
    ("chain-ws", 50),
    ("chain-ws", 100),
    ("chain-ws", 300),
    ("chain-grpc", 300),
]
_BLOCKS = 6


class Rig(NamedTuple):
    """A collector of four shards, and the exchange that it reads."""

    venue: Simulator
    running: Running
    source: str


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size[0]}-{size[1]}")
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A tenth of the markets is dead, three tenths are quiet, the others trade."""
    source, markets = request.param
    folder: Path = tmp_path_factory.mktemp("collector")
    shares = ("--dead", "0.1", "--quiet", "0.3", "--paused", "0")
    busy = ("--block-time", "0.2", "--touched", "0.5", "--matches", str(markets / 5))
    with simulator("--markets", str(markets), *busy, *shares) as venue:
        config = str(venue.config(folder))
        options = ("--config", config, "--source", source, "--shards", "4")
        with collector(folder, *options) as running:
            running.await_live(within_s=60)
            yield Rig(venue, running, source)


def test_every_market_is_covered(rig: Rig) -> None:
    rig.venue.await_height(rig.venue.head() + _BLOCKS)
    status = rig.running.await_live()
    assert status["markets"]["requested"] == len(rig.venue.markets)
    assert status["coverage"]["now"] == 1.0
    assert status["completeness"] == 1.0
    assert status["blocks"]["replayed"] == status["blocks"]["missing"] == 0
    states = Counter(row["state"] for row in rig.running.markets())
    assert states == {"live": len(rig.venue.markets)}, "a quiet or dead market is not stale"
    assert sum(shard["markets"] for shard in status["shards"]) == len(rig.venue.markets)
    assert all(shard["markets"] for shard in status["shards"])


def test_every_trade_and_book_change_comes_once_and_in_order(rig: Rig) -> None:
    first, last, published = _follow(rig, None)
    check_trades(rig.venue, published, first, last)
    check_books(rig.venue, published, first, last)


def test_all_markets_come_back_after_a_cut_and_nothing_is_lost(rig: Rig) -> None:
    protocol = rig.venue.protocol_of(rig.source)
    before = sum(shard["connects"] for shard in rig.running.status()["shards"])
    first, last, published = _follow(rig, faults.Disconnect(protocol=protocol))
    check_trades(rig.venue, published, first, last)
    check_books(rig.venue, published, first, last)
    # Shards report once a second.
    eventually(
        lambda: sum(shard["connects"] for shard in rig.running.status()["shards"]) >= before + 4,
        within_s=30,
        what="four shards that connected again",
    )
    status = rig.running.await_live()
    assert status["coverage"]["now"] == 1.0
    assert status["completeness"] == 1.0
    assert status["blocks"]["missing"] == 0
    assert status["gaps"]["opened"] == status["gaps"]["closed"] > 0


def _follow(rig: Rig, fault: faults.Fault | None) -> tuple[int, int, Published]:
    """Read what is published while the exchange makes some blocks, perhaps under a fault."""
    published = Published(rig.running.publish)
    try:
        first = rig.venue.head() + 3
        await_heights(rig.running, published, first)
        if fault is not None:
            rig.venue.inject(fault)
        last = rig.venue.head() + _BLOCKS
        rig.venue.await_height(last)
        await_heights(rig.running, published, last)
    finally:
        published.close()
    return first, last, published
