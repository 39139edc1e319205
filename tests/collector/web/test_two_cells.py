"""The page of two cells: both are shown beside each other, and either may go."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.collector.web.serving import dashboard
from tests.simulator.client import simulator
from tests.system.running import Running, collector


@pytest.fixture
def cells(tmp_path: Path) -> Iterator[list[Running]]:
    """Two cells of one simulated exchange."""
    with ExitStack() as stack:
        venue = stack.enter_context(simulator("--markets", "6", "--block-time", "0.3"))
        started = []
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            config = str(venue.config(folder))
            started.append(stack.enter_context(collector(folder, "--config", config)))
        for cell in started:
            cell.await_live(60)
        yield started


def test_both_are_shown_and_the_page_goes_on_with_the_other(
    cells: list[Running], tmp_path: Path
) -> None:
    endpoints = [cell.publish for cell in cells]
    with dashboard(tmp_path, ",".join(endpoints)) as page, page.look() as looker:
        message = looker.until(
            lambda said: all("live" in row for row in said.get("collectors", [{}]))
        )
        rows = message["collectors"]
        assert [row["endpoint"] for row in rows] == endpoints
        assert [row["chosen"] for row in rows] == [True, False]
        assert all(row["live"] == row["wanted"] == 6 for row in rows)
        cells[0].stop(signal.SIGTERM)
        message = looker.until(
            lambda said: any(row["silent_since"] for row in said.get("collectors", []))
        )
        first, second = message["collectors"]
        assert first["silent_since"]
        assert second["chosen"]
        # The rest of the page is the other cell's from now on: its journal, its figures.
        epoch = cells[1].status()["publisher_epoch"]
        looker.until(lambda said: said.get("status", {}).get("publisher_epoch") == epoch)
        looker.until(lambda said: said.get("status", {}).get("blocks"))
        assert "silent_since" not in looker.until(lambda said: "status" in said)
