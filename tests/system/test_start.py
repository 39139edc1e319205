"""The main job, as a user starts it, on the real node."""

import json
import logging
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.system.running import (
    Devnet,
    alive,
    collector,
    eventually,
    free_port_pair,
    run,
)

pytestmark = pytest.mark.node

log = logging.getLogger(__name__)
"""Carries what was measured; `--log-cli-level=INFO` shows it."""


@pytest.mark.parametrize("shards", [1, 2, 3, 4])
def test_every_market_is_covered_whatever_the_number_of_shards(
    node: Devnet, tmp_path: Path, shards: int
) -> None:
    config = str(node.config(tmp_path))
    with collector(tmp_path, "--config", config, "--shards", str(shards)) as running:
        status = running.await_live()
        eventually(
            lambda: running.status()["blocks"]["due"] > 5 * len(node.markets),
            within_s=30,
            what="five blocks in every market",
        )
        status = running.status()
    assert status["markets"]["live"] == status["markets"]["requested"] == len(node.markets)
    assert status["coverage"]["now"] == 1.0
    assert status["completeness"] == 1.0
    assert [shard["markets"] > 0 for shard in status["shards"]] == [True] * shards
    assert status["latency_us"]["recv_to_aggregator"]["p99"] > 0


def test_the_main_job_runs_on_a_devnet_of_its_own_and_ends_with_a_summary() -> None:
    done = run(
        *("start", "--network", "devnet", "--shards", "2", "--duration", "15", "--summary", "-"),
        *("--publish", f"tcp://127.0.0.1:{free_port_pair()}", "--min-coverage", "1"),
        *("--devnet-option=--quiet-markets=2",),
        within_s=240,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["markets"]["live"] == summary["markets"]["requested"] == 16
    assert summary["coverage"]["now"] == 1.0
    assert summary["completeness"] == 1.0
    assert summary["events"]["trades"] > 0
    assert summary["events"]["book_updates"] > 0
    assert summary["blocks"]["missing"] == 0
    assert {p["name"] for p in summary["processes"]} >= {"shard 0", "shard 1", "aggregator"}
    assert all(shard["frames"] > 0 for shard in summary["shards"])


def test_every_trading_market_has_trades_and_book_updates(node: Devnet, tmp_path: Path) -> None:
    quiet = {market["market_id"] for market in node.markets if market["quiet"]}

    with collector(tmp_path, "--config", str(node.config(tmp_path)), "--shards", "2") as running:
        running.await_live()

        def all_trade() -> bool:
            return all(
                row.get("trades") and row.get("book_updates")
                for row in running.markets()
                if row["market_id"] not in quiet
            )

        eventually(all_trade, within_s=60, every_s=0.5, what="trades in every trading market")
        states = {row["market_id"]: row["state"] for row in running.markets()}
    assert all(states[market_id] == "live" for market_id in quiet), "quiet is not stale"


def test_a_killed_shard_is_back_and_the_others_never_blink(node: Devnet, tmp_path: Path) -> None:
    with collector(tmp_path, "--config", str(node.config(tmp_path)), "--shards", "2") as running:
        running.await_live()
        others = {r["symbol"] for r in running.markets() if r["shard"] == 1}
        os.kill(running.pid("shard 0"), signal.SIGKILL)
        killed_at = time.monotonic()
        blinked: set[str] = set()

        def back() -> bool:
            rows = running.markets()
            blinked.update(
                r["symbol"] for r in rows if r["symbol"] in others and r["state"] != "live"
            )
            status = running.status()
            processes = {p["name"]: p["restarts"] for p in status["processes"]}
            # Until the new one reports, the status has the word of the one before.
            reported = status["gaps"]["opened"] > 0
            return processes["shard 0"] == 1 and reported and running.live()

        eventually(back, within_s=30, what="shard 0 restarted and all live")
        log.info("back and live after %.1f s", time.monotonic() - killed_at)
        status = running.status()
    assert not blinked
    assert status["completeness"] == 1.0
    assert status["blocks"]["missing"] == 0
    assert status["gaps"]["opened"] == status["gaps"]["closed"] > 0


@pytest.mark.parametrize("after", ["starting a devnet", "publishing on", "markets live"])
def test_ctrl_c_at_any_moment_leaves_nothing(tmp_path: Path, after: str) -> None:
    with collector(tmp_path, "--network", "devnet") as running:
        eventually(lambda: after in running.log, within_s=90, what=after)
        ours = psutil.Process(running.process.pid)
        family = eventually(lambda: ours.children(recursive=True), within_s=30, what="a child")
        assert running.stop(signal.SIGINT) == 0, running.log
        eventually(lambda: not alive(family), within_s=30, what="no process left")
        eventually(lambda: not running.leftovers(), within_s=30, what=running.leftovers)


@pytest.mark.parametrize("delay_s", [0.05, 0.3, 0.6, 1.2, 2.0, 3.0])
def test_ctrl_c_during_boot_leaves_nothing(tmp_path: Path, delay_s: float) -> None:
    with collector(tmp_path, "--network", "devnet") as running:
        time.sleep(delay_s)  # the moment itself is what varies here
        ours = psutil.Process(running.process.pid)
        family = ours.children(recursive=True)
        code = running.stop(signal.SIGINT)
        # While it imports our modules, nothing runs yet and Python itself answers the signal.
        assert code == 0 or "starting a devnet" not in running.log, running.log
        eventually(lambda: not alive(family), within_s=30, what="no process left")
        eventually(lambda: not running.leftovers(), within_s=30, what=running.leftovers)


def test_orphans_stop_by_themselves(node: Devnet, tmp_path: Path) -> None:
    with collector(tmp_path, "--config", str(node.config(tmp_path)), "--shards", "2") as running:
        running.await_live()
        family = psutil.Process(running.process.pid).children(recursive=True)
        running.process.kill()
        running.process.wait()
        killed_at = time.monotonic()
        eventually(lambda: not alive(family), within_s=30, what="shards and aggregator gone")
        log.info("gone after %.1f s", time.monotonic() - killed_at)
        eventually(lambda: not list(running.temporary.iterdir()), within_s=30, what="no folder")


def test_a_channel_that_is_not_asked_for_is_not_collected(node: Devnet, tmp_path: Path) -> None:
    config = str(node.config(tmp_path))
    with collector(tmp_path, "--config", config, "--channel", "trades") as running:
        running.await_live()
        eventually(
            lambda: running.status()["events"]["trades"] > 0, within_s=30, what="some trades"
        )
        status = running.status()
    assert status["events"]["book_updates"] == 0
    assert status["completeness"] == 1.0


def test_280_markets_are_covered(tmp_path: Path) -> None:
    sizes = ("--devnet-spot", "200", "--devnet-perp", "80")
    with collector(tmp_path, "--network", "devnet", *sizes, "--shards", "4") as running:
        status = running.await_live(within_s=120)
        eventually(
            lambda: running.status()["blocks"]["due"] > 10 * 280, within_s=120, what="ten blocks"
        )
        status = running.status()
    assert status["markets"]["live"] == status["markets"]["requested"] == 280
    assert status["completeness"] == 1.0
    assert [shard["markets"] for shard in status["shards"]] == [70] * 4
