"""Markets that come, go and move while the exchange is busy: the truth, once, in order."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.simulator.published import Published, await_heights, check_books, check_trades
from tests.system.running import Running, collector, eventually, run

_LISTING = "[supervision]\nlisting_s = 0.5\n"


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """A busy exchange."""
    options = ("--markets", "40", "--block-time", "0.2", "--touched", "0.5", "--matches", "3")
    with simulator(*options, "--paused", "0") as running:
        yield running


def _row(running: Running, market_id: str) -> dict[str, object]:
    rows = [row for row in running.markets() if row["market_id"] == market_id]
    return rows[0] if rows else {}


def _whole_since(running: Running, whole: int) -> bool:
    """The proof goes on, and has found no hole."""
    proof = running.status()["trade_proof"]
    return bool(proof["provable"] and proof["whole"] > whole + 10)


def test_a_market_is_collected_once_it_is_listed_and_let_go_once_it_is_not(
    venue: Simulator, tmp_path: Path
) -> None:
    config = venue.config(tmp_path, extra=_LISTING)
    with collector(tmp_path, "--shards", "2", "--config", str(config)) as running:
        running.await_live()
        published = Published(running.publish)
        eventually(lambda: _whole_since(running, 0), within_s=30, what="a proof")
        new = venue.list_market()["market_id"]
        eventually(lambda: _row(running, new).get("state") == "live", within_s=60, what="it live")
        first = venue.head() + 2
        await_heights(running, published, first)
        venue.await_height(first + 10)
        last = venue.head()
        await_heights(running, published, last)
        published.close()
        check_trades(venue, published, first, last)
        check_books(venue, published, first, last)
        assert any(event[0] == new for event in published.books)
        whole = running.status()["trade_proof"]["whole"]
        eventually(lambda: _whole_since(running, whole), within_s=30, what="a proof that goes on")
        venue.delist(new)
        eventually(
            lambda: (_row(running, new)["state"], _row(running, new)["shard"]) == ("inactive", -1),
            within_s=60,
            what="it let go",
        )
        status = running.await_live()
        assert status["markets"]["requested"] - status["markets"]["inactive"] == 40
        whole = status["trade_proof"]["whole"]
        eventually(lambda: _whole_since(running, whole), within_s=30, what="a proof of the rest")
        assert running.status()["trade_proof"]["holes"] == 0
    assert "is newly listed: collecting it" in running.log


def test_a_command_that_waits_for_its_turn_is_not_said_to_be_going_on(
    venue: Simulator, tmp_path: Path
) -> None:
    with collector(tmp_path, "--config", str(venue.config(tmp_path))) as running:
        running.await_live()
        where = ("--connect", running.publish)
        os.kill(running.process.pid, signal.SIGSTOP)
        try:
            done = run("scale", "2", "--within", "2", *where)
        finally:
            os.kill(running.process.pid, signal.SIGCONT)
        assert done.returncode == 3
        assert "not begun within 2 s: it follows the command that is being" in done.stderr
        eventually(lambda: len(running.peek().get("shards", [])) == 2, within_s=60)


def test_a_list_of_markets_from_a_server_that_is_behind_gives_up_no_market(tmp_path: Path) -> None:
    options = ("--markets", "4", "--block-time", "0.1", "--paused", "0")
    with simulator(*options) as going, simulator(*options) as behind:
        behind.inject(faults.Halt(for_s=600.0))
        config = going.config(tmp_path, extra=_LISTING)
        both = f'chain_grpc = ["{going.grpc}", "{behind.grpc}"]'
        config.write_text(config.read_text().replace(f'chain_grpc = ["{going.grpc}"]', both))
        with collector(tmp_path, "--config", str(config)) as running:
            running.await_live()
            new = going.list_market()["market_id"]
            eventually(lambda: _row(running, new).get("state") == "live", within_s=60)
            going.await_height(behind.head() + 60)
            # The first server's queries fail, and the second one does not know the new market.
            going.inject(faults.Stop(protocol="grpc"))
            asked = behind.stats()["queries"]
            # Six queries are a list, and the second list without it would give it up.
            eventually(lambda: behind.stats()["queries"] > asked + 24, within_s=60)
            assert _row(running, new)["status"] == "Active"
            assert _row(running, new)["state"] == "live"
            running.await_accounted(going.head())
        assert "no longer listed" not in running.log


@pytest.mark.parametrize("source", ["chain-ws", "chain-grpc"])
def test_shards_that_die_in_the_middle_of_a_move_cost_nothing(
    venue: Simulator, tmp_path: Path, source: str
) -> None:
    config = venue.config(tmp_path, extra="[limits]\nmute_floor_s = 1.0\n")
    options = ("--shards", "1", "--config", str(config), "--source", source)
    with collector(tmp_path, *options) as running, ThreadPoolExecutor(1) as elsewhere:
        running.await_live()
        published = Published(running.publish)
        first = venue.head() + 2
        await_heights(running, published, first)
        # The newcomer dies while it joins, then the owner while it is being left.
        for number, victim, after_s in (("3", "shard 1", 0.1), ("1", "shard 0", 0.8)):
            moving = elsewhere.submit(run, "scale", number, "--connect", running.publish)
            # On a quiet machine they may have moved before the look.
            eventually(
                lambda: running.status()["markets"]["moving"] or moving.done(),  # noqa: B023
                within_s=30,
                what="moves",
            )
            pid = eventually(lambda: running.pid(victim), within_s=30, what=victim)  # noqa: B023
            time.sleep(after_s)
            os.kill(pid, signal.SIGKILL)
            done = moving.result(90)
            assert done.returncode == 0, done.stderr
            running.await_live()
        last = venue.head()
        await_heights(running, published, last)
        published.close()
        check_trades(venue, published, first, last)
        # Successors begin with a whole book.
        check_books(venue, published, first, last, whole=False)
        eventually(lambda: len(running.status()["shards"]) == 1, within_s=30, what="one shard")
        assert running.status()["blocks"]["missing"] == 0
