"""Processes of the collector that die or stand still: replaced, and nothing is lost by it."""

import logging
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.system.listening import (
    Listener,
    assert_books_agree,
    assert_every_trade_once,
    blocks_later,
    configure,
    first_due,
)
from tests.system.running import Devnet, Running, collector, eventually, runs

pytestmark = pytest.mark.node

log = logging.getLogger(__name__)


def restarts(running: Running, name: str) -> int:
    """Return how often a process was restarted; 0 while there is no answer."""
    processes = running.peek().get("processes", [])
    return sum(process["restarts"] for process in processes if process["name"] == name)


def test_a_killed_aggregator_costs_a_subscriber_nothing(node: Devnet, tmp_path: Path) -> None:
    config = configure(tmp_path, node)
    with collector(tmp_path, "--config", config, "--shards", "2") as running:
        running.await_live()
        with Listener(running) as listener:
            first = first_due(node)
            eventually(
                lambda: listener.drain().trades(first, first + 10**6),
                within_s=30,
                what="a trade before the kill",
            )
            # Its successor must not be there before the next block: there would be nothing to heal.
            aggregator, supervisor = running.pid("aggregator"), running.process
            supervisor.send_signal(signal.SIGSTOP)
            killed_at = time.monotonic()
            try:
                os.kill(aggregator, signal.SIGKILL)
                blocks_later(node, 2)
            finally:
                supervisor.send_signal(signal.SIGCONT)
            eventually(lambda: len(listener.drain().joined) == 2, within_s=30, what="a new epoch")
            log.info("joined again after %.1f s", time.monotonic() - killed_at)
            eventually(
                lambda: restarts(running, "aggregator") == 1 and running.live(),
                within_s=30,
                what="all live",
            )
            log.info("all live after %.1f s", time.monotonic() - killed_at)
            # The new one begins with the saved ledger: shards vouch for their markets some time
            # before it has all frames up to their reports.
            status = running.await_accounted(first + 1)
            last = status["blocks"]["last"]
            assert_every_trade_once(node, listener, first, last)
            assert_books_agree(node, running, listener)
            epochs = [joined.publisher_epoch for joined in listener.joined]
    assert epochs == sorted(set(epochs))
    assert not listener.lost
    assert any(received.healed for received in listener.heard)
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0)


def test_a_shard_that_stands_still_is_replaced_and_never_comes_back(
    node: Devnet, tmp_path: Path
) -> None:
    config = configure(tmp_path, node, tables="[supervision]\nstall_after_s = 3.0")
    with collector(tmp_path, "--config", config, "--shards", "2") as running:
        running.await_live()
        with Listener(running) as listener:
            first = first_due(node)
            old = psutil.Process(running.pid("shard 0"))
            old.suspend()
            stopped_at = time.monotonic()
            eventually(lambda: restarts(running, "shard 0") == 1, within_s=30, what="a new shard 0")
            log.info("replaced after %.1f s", time.monotonic() - stopped_at)
            assert not runs(old)
            replaced_at = time.monotonic()
            status = running.await_live(within_s=60)
            log.info("all live %.1f s later", time.monotonic() - replaced_at)
            status = running.await_accounted(first + 1)
            assert_every_trade_once(node, listener, first, status["blocks"]["last"])
            assert_books_agree(node, running, listener)
    assert "shard 0: its event loop is stuck" in running.log
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0)
    assert status["blocks"]["replayed"] > 0
    assert [shard["shard"] for shard in status["shards"]] == [0, 1]
