"""A chain under load, which drops slow readers, halts, and has paused markets."""

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import zmq

from tests.system.governing import pause
from tests.system.listening import (
    Listener,
    assert_every_trade_once,
    blocks_later,
    configure,
    first_due,
)
from tests.system.running import Devnet, collector, devnet, eventually

pytestmark = pytest.mark.node

log = logging.getLogger(__name__)

PAUSED = 2
QUIET = 2


@pytest.fixture(scope="module")
def busy() -> Iterator[Devnet]:
    """
    A devnet of 64 markets under heavy traffic, which keeps twenty blocks for slow readers.

    With fewer it drops readers that are not slow, on a busy machine.
    """
    options = ("--spot", "48", "--perp", "16", "--block-time", "0.5", "--traffic", "heavy")
    idle = ("--paused-markets", str(PAUSED), "--quiet-markets", str(QUIET))
    with devnet(*options, *idle, "--stream-buffer", "20") as running:
        yield running


def pass_time(seconds: float) -> None:
    """Let a fault last: the one thing here that is not a condition."""
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > until, within_s=seconds + 1)


def is_served(node: Devnet, client: psutil.Process) -> bool:
    """Say whether the node still holds a WebSocket connection of this process."""
    port = urlsplit(node.ws).port
    ours = {c.laddr.port for c in client.net_connections("tcp") if c.raddr and c.raddr.port == port}
    served = psutil.Process(node.info["pids"]["node"]).net_connections("tcp")
    return any(
        c.status == psutil.CONN_ESTABLISHED and c.raddr.port in ours for c in served if c.raddr
    )


def test_a_shard_that_stood_still_until_the_node_dropped_it_gets_every_block(
    busy: Devnet, tmp_path: Path
) -> None:
    config = configure(tmp_path, busy, tables="[supervision]\nstall_after_s = 60.0")
    with collector(tmp_path, "--config", config) as running:
        running.await_live()
        with Listener(running) as listener:
            first = first_due(busy)
            shard = psutil.Process(running.pid("shard 0"))
            assert is_served(busy, shard)
            shard.suspend()
            stopped_at = time.monotonic()
            eventually(lambda: not is_served(busy, shard), within_s=150, what="a dropped reader")
            log.info("dropped after %.1f s", time.monotonic() - stopped_at)
            # What was sent before the drop still waits in the sockets' buffers.
            blocks_later(busy, 6)
            shard.resume()
            resumed_at = time.monotonic()
            eventually(
                lambda: running.live() and running.log.count("connected to") >= 2,
                within_s=60,
                what=lambda: f"all live; log:\n{running.log}",
            )
            log.info("healed %.1f s after it went on", time.monotonic() - resumed_at)
            status = running.await_accounted(first + 1)
            assert_every_trade_once(busy, listener, first, status["blocks"]["last"])
    assert shard.pid in [process["pid"] for process in status["processes"]]
    assert status["blocks"]["replayed"] > 0
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0)
    assert status["gaps"]["opened"] == status["gaps"]["closed"] > 0


@contextlib.contextmanager
def halted(busy: Devnet) -> Iterator[Callable[[], None]]:
    """Halt the chain; it goes on when the yielded function is called, or at the end."""
    goes_on = False

    def go_on() -> None:
        nonlocal goes_on
        if not goes_on:
            goes_on = True
            busy.process.send_signal(signal.SIGUSR2)

    busy.process.send_signal(signal.SIGUSR2)
    try:
        yield go_on
    finally:
        go_on()


def test_a_collector_started_while_the_chain_halts_says_so_and_waits(
    busy: Devnet, tmp_path: Path
) -> None:
    config = configure(tmp_path, busy)
    with halted(busy) as go_on, collector(tmp_path, "--config", config) as running:
        eventually(lambda: running.peek().get("halted"), within_s=30, what=lambda: running.log)
        go_on()
        running.await_live()


def test_a_chain_that_halts_is_not_stale(busy: Devnet, tmp_path: Path) -> None:
    with collector(tmp_path, "--config", configure(tmp_path, busy), "--shards", "2") as running:
        running.await_live()
        states: set[str] = set()

        def look(*, halted: bool) -> bool:
            states.update(row["state"] for row in running.markets())
            return bool(running.status()["halted"] is halted)

        busy.process.send_signal(signal.SIGUSR2)
        try:
            eventually(lambda: look(halted=True), within_s=30, what="halted in the status")
            pass_time(8.0)
            assert look(halted=True)
            head = running.status()["blocks"]["head"]
        finally:
            busy.process.send_signal(signal.SIGUSR2)
        eventually(
            lambda: look(halted=False) and running.status()["blocks"]["last"] > head + 8,
            within_s=90,
            what=lambda: f"blocks again after {head}: {running.status()['blocks']}",
        )
        status = running.status()
    assert running.log.count(f"chain halted at height {head}") == 2
    assert states == {"live"}
    assert "resubscribing" not in running.log
    assert [shard["connects"] for shard in status["shards"]] == [1, 1]
    assert status["gaps"]["opened"] == 0
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0)


@pytest.fixture
def deaf() -> Iterator["zmq.Socket[bytes]"]:
    """A subscriber that never reads, with the smallest possible queue."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.setsockopt(zmq.RCVBUF, 4096)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    yield socket
    context.destroy(linger=0)


def test_a_subscriber_that_does_not_read_harms_nobody_and_catches_up(
    busy: Devnet, deaf: "zmq.Socket[bytes]", tmp_path: Path
) -> None:
    config = configure(tmp_path, busy)
    with collector(tmp_path, "--config", config, "--shards", "2") as running:
        running.await_live()
        with Listener(running) as listener, Listener(running, hwm=10) as slow:
            deaf.connect(running.publish)
            first = first_due(busy)
            last = blocks_later(busy, 12)
            assert_every_trade_once(busy, listener, first, last)
            status, log_text = running.await_live(), running.log
            assert not listener.lost
            heard = listener.trades(first, last)
            eventually(
                lambda: slow.drain().lost or slow.trades(first, last) == heard,
                within_s=30,
                what="what it did not read, or word of what is lost",
            )
    assert all(count == 1 for count in slow.trades(first, last).values())
    assert status["coverage"] == {"now": 1.0, "mean": pytest.approx(1.0, abs=0.5)}
    assert status["gaps"]["opened"] == status["frames"]["dropped"] == 0, log_text
    assert status["latency_us"]["recv_to_aggregator"]["p50"] < 50_000


def test_a_quiet_market_is_live_and_a_paused_one_inactive_and_neither_is_ever_stale(
    busy: Devnet, tmp_path: Path
) -> None:
    with collector(tmp_path, "--config", configure(tmp_path, busy), "--market", "*") as running:
        running.await_live()
        states: dict[str, list[str]] = {}

        def look() -> dict[str, Any]:
            for row in running.markets():
                seen = states.setdefault(row["market_id"], [])
                if seen[-1:] != [row["state"]]:
                    seen.append(row["state"])
            return running.status()

        eventually(lambda: look()["blocks"]["due"] > 10 * 64, within_s=90, what="ten blocks")
        assert look()["markets"]["inactive"] == PAUSED
        pause(busy, busy.markets[0]["market_id"])
        # A new block of every market, and the listing asked for again, take their time.
        eventually(
            lambda: look()["markets"]["inactive"] == PAUSED + 1, within_s=90, what="one more"
        )
        status = look()
    for number, market in enumerate(busy.markets):
        wanted = ["live", "inactive"] if number == 0 else ["live"]
        wanted = ["inactive"] if market["paused"] else wanted
        assert states[market["market_id"]] == wanted, market
    assert sum(market["quiet"] for market in busy.markets) == QUIET
    assert status["markets"]["live"] == len(busy.markets) - PAUSED - 1
    assert (status["coverage"]["now"], status["completeness"]) == (1.0, 1.0)
