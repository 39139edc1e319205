"""Markets that lag by a part while others are recorded: they are not whole until they have caught up."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.archive.reading.tables import read
from tests.simulator.client import Simulator, simulator
from tests.system.recorders import record, sealed_through, stop
from tests.system.running import Running, collector, eventually

SPAN = 10


@pytest.fixture
def exchange() -> Iterator[Simulator]:
    pace = ("--block-time", "0.1", "--history", "100000")
    with simulator("--markets", "4", "--touched", "all", *pace) as venue:
        yield venue


@contextlib.contextmanager
def _standing(running: Running, shard: int) -> Iterator[None]:
    pid = running.pid(f"shard {shard}")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _missing(root: Path) -> set[str]:
    return set(read(root, "coverage", holes="allow").holes)


def test_a_market_that_is_behind_is_not_whole_until_it_has_caught_up(
    exchange: Simulator, tmp_path: Path
) -> None:
    root = tmp_path / "archive"
    config = exchange.config(tmp_path, extra="[supervision]\nstall_after_s = 300\n")
    with collector(tmp_path, "--config", str(config), "--shards", "2") as running:
        running.await_live()
        recorder = record(root, running.publish, span=SPAN)
        try:
            eventually(lambda: sealed_through(root) > 0, within_s=60)
            stopped = {m["symbol"] for m in running.markets() if m["shard"] == 0}
            with _standing(running, 0):
                begun = exchange.head()
                eventually(lambda: sealed_through(root) > begun + SPAN, within_s=60)
                assert _missing(root) == stopped
            through = exchange.head()
            eventually(lambda: sealed_through(root) > through, within_s=60)
            eventually(lambda: not _missing(root), within_s=60)
        finally:
            stop(recorder)
    coverage = read(root, "coverage", holes="raise")
    first = min(coverage.arrow["first_height"].to_pylist())
    table = read(root, "book", start=first, end=through, holes="raise").arrow
    found = sorted(zip(table["market_id"].to_pylist(), table["sequence"].to_pylist(), strict=True))
    blocks = [exchange.block(height) for height in range(first, through + 1)]
    assert found == sorted((u.market_id, u.sequence) for b in blocks for u in b.updates)
