"""A backfill after one that was killed: only what was really fetched counts as fetched."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collector.archive.reading.tables import read
from tests.simulator.client import Simulator, simulator
from tests.system.running import run

SPAN = 20
Backfill = Callable[..., str]


@pytest.fixture(scope="module")
def exchange() -> Iterator[tuple[Simulator, int]]:
    """Two markets that change in each block, and the first height of a part that is over."""
    pace = ("--block-time", "0.02", "--history", "100000")
    with simulator("--markets", "2", "--touched", "all", *pace) as venue:
        first = (venue.head() // SPAN + 1) * SPAN
        venue.await_height(first + SPAN)
        yield venue, first


@pytest.fixture
def backfill(
    exchange: tuple[Simulator, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Backfill:
    """Return what runs a backfill of the part, and kills it after four blocks if asked to."""
    venue, first = exchange
    config = str(venue.config(tmp_path))
    given = ("--to", str(tmp_path / "archive"), "--config", config, "--per-s", "1000")

    def once(*options: str, until: int = SPAN - 1, is_killed: bool = False) -> str:
        heights = ("--from", str(first), "--until", str(first + until))
        with monkeypatch.context() as patch:
            if is_killed:
                patch.setenv("ARCHIVE_CRASH_AT", "backfill.fetched:4")
            done = run("backfill", *given, *heights, "--part-heights", str(SPAN), *options)
        assert done.returncode == (-signal.SIGKILL if is_killed else 0), done.stderr
        return done.stdout

    return once


def _is_true(root: Path, exchange: tuple[Simulator, int], markets: int) -> bool:
    """Say whether the part has all changes and trades of so many markets."""
    venue, first = exchange
    blocks = [venue.block(height) for height in range(first, first + SPAN)]
    ids = {market["market_id"] for market in venue.markets[:markets]}
    book = {(u.market_id, u.sequence) for b in blocks for u in b.updates if u.market_id in ids}
    trades = {(m, t.trade_id) for b in blocks for m, t in b.trades if m in ids}
    found = [
        list(zip(table["market_id"].to_pylist(), table[key].to_pylist(), strict=True))
        for channel, key in (("book", "sequence"), ("trades", "trade_id"))
        for table in [read(root, channel, holes="raise").arrow]
    ]
    assert trades
    return [sorted(rows) for rows in found] == [sorted(book), sorted(trades)]


def test_the_same_command_goes_on(
    exchange: tuple[Simulator, int], backfill: Backfill, tmp_path: Path
) -> None:
    backfill(is_killed=True)
    assert f"{SPAN - 4} fetched for 1 parts" in backfill()
    assert _is_true(tmp_path / "archive", exchange, 2)


def test_a_shorter_range_is_not_taken_for_the_one_that_was_killed(
    exchange: tuple[Simulator, int], backfill: Backfill, tmp_path: Path
) -> None:
    backfill(is_killed=True)
    backfill(until=5)
    rows = read(tmp_path / "archive", "coverage").arrow.to_pylist()
    assert [(row["due"], row["missing"]) for row in rows] == [(6, 0)] * 2
    assert f"{SPAN - 6} fetched for 1 parts" in backfill()
    assert _is_true(tmp_path / "archive", exchange, 2)


def test_fewer_markets_are_not_taken_for_those_that_were_killed(
    exchange: tuple[Simulator, int], backfill: Backfill, tmp_path: Path
) -> None:
    root, one = tmp_path / "archive", exchange[0].markets[0]["market_id"]
    backfill(is_killed=True)
    backfill("--market", one)
    assert {row["market_id"] for row in read(root, "coverage").arrow.to_pylist()} == {one}
    assert _is_true(root, exchange, 1)
    assert f"{SPAN} fetched for 1 parts" in backfill()
    assert _is_true(root, exchange, 2)


@pytest.mark.parametrize(("option", "value"), [("--market", ""), ("--channel", "trades")])
def test_what_was_killed_and_wanted_less_does_not_stand_for_the_rest(
    exchange: tuple[Simulator, int], backfill: Backfill, tmp_path: Path, option: str, value: str
) -> None:
    """Its blocks are asked again for the other markets and channels."""
    one = exchange[0].markets[0]["market_id"]
    backfill(option, value or one, is_killed=True)
    assert f"{SPAN} fetched for 1 parts" in backfill()
    assert _is_true(tmp_path / "archive", exchange, 2)
