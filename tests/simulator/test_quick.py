"""Each source for a few seconds: the least that shows it works. The menus of faults show the rest."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator.client import Simulator, simulator
from tests.simulator.published import Published, await_heights, check_books, check_trades
from tests.system.running import collector, eventually


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """A small busy exchange."""
    with simulator("--markets", "8", "--block-time", "0.1", "--matches", "4") as running:
        yield running


@pytest.mark.parametrize("source", ["chain-ws", "chain-grpc"])
def test_what_a_source_tells_is_published(venue: Simulator, tmp_path: Path, source: str) -> None:
    options = ("--config", str(venue.config(tmp_path)), "--source", source, "--shards", "2")
    with collector(tmp_path, *options) as running:
        running.await_live()
        published = Published(running.publish)
        first = venue.head() + 3
        await_heights(running, published, first)
        venue.await_height(first + 10)
        last = venue.head()
        await_heights(running, published, last)
        published.close()
        status = running.status()
    check_trades(venue, published, first, last)
    check_books(venue, published, first, last)
    assert (status["coverage"]["now"], status["completeness"]) == (1.0, 1.0)


def test_what_the_indexer_tells_is_published(venue: Simulator, tmp_path: Path) -> None:
    config = tmp_path / "collector.toml"
    config.write_text(f'[network]\nindexer = ["{venue.indexer}"]\n')
    with collector(tmp_path, "--config", str(config), "--source", "indexer-grpc") as running:
        running.await_live()
        published = Published(running.publish)
        first = venue.head() + 3
        venue.await_height(first + 10)
        eventually(lambda: published.drain() >= first + 10, within_s=60, what=lambda: running.log)
        published.close()
        running.await_live()
    check_trades(venue, published, first, first + 5)
