"""Which markets are active, quiet and dead: seen before they are collected, and while they are."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator.client import Simulator, simulator
from tests.simulator.markets import Shares, make_markets
from tests.system.running import collector, run

MARKETS = 60
TRUTH = {
    market.market_id: "active" if market.activity == "busy" else market.activity
    for market in make_markets(1, MARKETS, Shares(quiet=0.3, dead=0.1, paused=0.05))
    if market.status == "Active"
}

DEAD = next(market_id for market_id, level in TRUTH.items() if level == "dead")


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """An exchange with a little of everything, a minute old."""
    shares = ("--quiet", "0.3", "--dead", "0.1", "--paused", "0.05")
    busy = ("--touched", "0.9", "--matches", "20", "--block-time", "0.05")
    with simulator("--markets", str(MARKETS), *busy, *shares) as running:
        running.await_height(running.head() + 100)
        yield running


def test_the_list_of_markets_says_how_active_each_is(venue: Simulator, tmp_path: Path) -> None:
    config = str(venue.config(tmp_path))
    rows = json.loads(run("markets", "--config", config, "--json").stdout)
    found = {row["market_id"]: row["activity"] for row in rows if row["status"] == "Active"}
    assert found == TRUTH
    assert all(row["volume_blocks"] > 0 for row in rows)
    least = json.loads(
        run("markets", "--config", config, "--json", "--min-activity", "quiet").stdout
    )
    assert Counter(row["activity"] for row in least)["dead"] == 0


def test_an_indexer_tells_it_too_where_there_is_nothing_else(
    venue: Simulator, tmp_path: Path
) -> None:
    config = tmp_path / "collector.toml"
    config.write_text(f'[network]\nindexer = ["{venue.indexer}"]\n')
    rows = json.loads(run("markets", "--config", str(config), "--json").stdout)
    assert {row["market_id"]: row["activity"] for row in rows if row["status"] == "Active"} == TRUTH


@pytest.mark.parametrize("source", ["chain-ws", "chain-grpc"])
def test_dead_and_quiet_markets_are_told_apart_and_none_is_stale(
    venue: Simulator, tmp_path: Path, source: str
) -> None:
    config = venue.config(tmp_path)
    with collector(tmp_path, "--config", str(config), "--source", source, "--shards", "2") as it:
        it.await_live()
        head = venue.head()
        # Longer than what makes a subscription mute: 2 s.
        venue.await_height(head + 60)
        status, rows = it.await_live(), it.markets()
        log = it.log
    assert {row["market_id"]: row["activity"] for row in rows} == TRUTH
    assert {row["state"] for row in rows} == {"live"}
    assert "no block for" not in log
    assert status["coverage"]["now"] == 1.0
    assert all(row["weight"] == 1.0 for row in rows if row["activity"] != "active")


def test_the_most_active_markets_can_be_chosen(venue: Simulator, tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    config = venue.config(tmp_path / "top", extra="")
    config.write_text('min_activity = "active"\ntop = 10\n' + config.read_text())
    with collector(tmp_path, "--config", str(config), "--top", "5") as it:
        it.await_live()
        rows = it.markets()
    assert len(rows) == 5
    assert {TRUTH[row["market_id"]] for row in rows} == {"active"}


@pytest.mark.parametrize(
    ("line", "options", "code", "sentence"),
    [
        (
            'min_activity = "lively"\n',
            (),
            3,
            "min_activity must be one of active, quiet, dead, not 'lively'",
        ),
        ("top = 0\n", (), 3, "top must be a whole number of at least 1, not 0"),
        ("", ("--top", "0"), 2, "--top must be a whole number of at least 1, not 0"),
        (
            "",
            ("--min-activity", "lively"),
            2,
            "--min-activity must be one of active, quiet, dead, not 'lively'",
        ),
        ("", ("--market", DEAD, "--min-activity", "quiet"), 3, "none of 1 market is as active"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(
    venue: Simulator, tmp_path: Path, line: str, options: tuple[str, ...], code: int, sentence: str
) -> None:
    config = venue.config(tmp_path)
    config.write_text(line + config.read_text())
    done = run("start", "--config", str(config), "--duration", "1", *options)
    assert (done.returncode, sentence in done.stderr) == (code, True), done.stderr
