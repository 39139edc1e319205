"""What goes wrong between the node and us, on the real node: found, healed, accounted for."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shards.protocol.events import Gap
from tests.proxy import FaultProxy
from tests.system.listening import (
    Listener,
    assert_books_agree,
    assert_every_trade_once,
    blocks_later,
    configure,
    first_due,
)
from tests.system.running import Devnet, collector, eventually
from tests.ws_filter import WsFilter

pytestmark = pytest.mark.node

BLOCK_S = 0.51
"""The node's fastest pace, at which the session's devnet runs."""
TURN_S = 3.0
"""Longest time that a process waits for its turn on a busy machine."""

log = logging.getLogger(__name__)
"""Carries what was measured; `--log-cli-level=INFO` shows it."""


@pytest.fixture
def proxy(node: Devnet) -> Iterator[FaultProxy]:
    """Stands between the collector and the node's WebSocket."""
    with FaultProxy("127.0.0.1", urlsplit(node.ws).port or 0) as proxy:
        yield proxy


def through(proxy: FaultProxy) -> str:
    """Name the WebSocket behind a proxy."""
    return f"ws://127.0.0.1:{proxy.port}/injstream-ws"


def test_one_mute_subscription_is_found_and_healed_and_the_others_never_blink(
    node: Devnet, tmp_path: Path
) -> None:
    with (
        WsFilter(node.ws) as between,
        collector(tmp_path, "--config", configure(tmp_path, node, ws=[between.url])) as running,
    ):
        running.await_live()
        market = running.markets()[0]
        asked_before = len(between.asked)
        blinked: set[str] = set()
        with Listener(running) as listener:
            between.swallow(between.subscription_of(market["market_id"]))
            muted_at = time.time()

            def healed() -> bool:
                blinked.update(r["symbol"] for r in running.markets() if r["state"] != "live")
                return bool(listener.drain().gaps("closed"))

            eventually(healed, within_s=30, every_s=0.02, what="a closed gap")
            status = running.await_live(60)
            (opened,), (closed,) = listener.gaps("open"), listener.gaps("closed")
            assert_every_trade_once(node, listener, opened.first, closed.last)
    log.info("found after %.1f s", opened.ts / 1e9 - muted_at)
    log.info("healed after %.1f s", closed.ts / 1e9 - muted_at)
    assert (opened.market_id, opened.cause) == (market["market_id"], "mute")
    assert opened.ts / 1e9 - muted_at <= 5 * max(BLOCK_S, status["block_time_s"]) + TURN_S
    # On a quiet machine it may be live again between two looks; the gap shows that it was not.
    assert blinked <= {market["symbol"]}
    assert between.connects == 1
    again = between.asked[asked_before:]
    assert [a.method for a in again] == ["unsubscribe", "subscribe"]
    assert again[1].concerns(market["market_id"])
    assert status["blocks"]["replayed"] >= closed.last - opened.first > 0
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0)


def test_a_connection_that_goes_mute_as_a_whole_is_made_anew(node: Devnet, tmp_path: Path) -> None:
    with (
        WsFilter(node.ws) as between,
        collector(tmp_path, "--config", configure(tmp_path, node, ws=[between.url])) as running,
    ):
        running.await_live()
        with Listener(running) as listener:
            for asked in list(between.asked):
                between.swallow(asked.id)
            muted_at = time.time()
            closed = eventually(
                lambda: listener.drain().gaps("closed"), within_s=30, what="a closed gap"
            )
            running.await_live(60)
            log.info("healed after %.1f s", closed[0].ts / 1e9 - muted_at)
            # What is published comes later than the status that tells of it.
            eventually(
                lambda: len(listener.drain().gaps("closed")) >= len(node.markets),
                within_s=30,
                what="a closed gap of every market",
            )
            opened = listener.gaps("open")
            status = running.await_accounted(opened[0].first + 1)
            last = status["blocks"]["last"]
            assert_every_trade_once(node, listener, opened[0].first, last)
    assert between.connects == 2
    assert "no block for" in running.log
    assert len(opened) == len(node.markets)
    assert {gap.cause for gap in opened} == {"mute"}
    assert opened[0].ts / 1e9 - muted_at <= 5 * max(BLOCK_S, status["block_time_s"]) + TURN_S
    # The last block of a gap may have come live; how many there were depends on the chain's pace.
    gaps = listener.gaps("closed")
    assert len(gaps) == len(node.markets)
    assert status["blocks"]["replayed"] >= sum(gap.last - gap.first for gap in gaps) > 0
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0)


@pytest.mark.parametrize(
    ("refusing_s", "most"), [(15.0, 7), pytest.param(60.0, 12, marks=pytest.mark.nightly)]
)
def test_an_endpoint_that_refuses_is_tried_less_and_less_and_found_again_when_it_heals(
    node: Devnet, proxy: FaultProxy, tmp_path: Path, refusing_s: float, most: int
) -> None:
    """Four times at first, and then after 2, 4, 8, 10, 10 … s."""
    config = configure(tmp_path, node, ws=[through(proxy)])
    with collector(tmp_path, "--config", config, "--shards", "2") as running:
        running.await_live()
        proxy.accept_then_close()
        proxy.cut()
        refused_at = time.monotonic()
        began = blocks_later(node, 1)

        def said_to_be_open() -> bool:
            endpoints = [shard["endpoints"][0] for shard in running.status()["shards"]]
            return all(e["breaker"] == "open" and e["reason"] for e in endpoints)

        eventually(said_to_be_open, within_s=30, what="two open breakers with their reasons")
        log.info("breakers open after %.1f s", time.monotonic() - refused_at)
        eventually(
            lambda: running.status()["coverage"]["now"] == 0.0, within_s=30, what="no coverage"
        )
        eventually(lambda: time.monotonic() - refused_at > refusing_s, within_s=61)
        attempts = len(proxy.refused)
        passed = blocks_later(node, 1) - began
        proxy.heal()
        healed_at = time.monotonic()
        status = running.await_live(within_s=60)
    log.info("%d attempts of two shards", attempts)
    log.info("recovered after %.1f s", time.monotonic() - healed_at)
    # The breakers alone would let the first four of each shard through in one instant.
    assert proxy.refused[7] - proxy.refused[0] > 0.2
    assert 2 * 4 < attempts <= 2 * most
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0)
    assert passed > 0
    assert status["blocks"]["replayed"] >= passed * len(node.markets)


def test_a_second_endpoint_takes_over_and_the_first_is_returned_to(
    node: Devnet, proxy: FaultProxy, tmp_path: Path
) -> None:
    first, second = through(proxy), node.ws
    config = configure(tmp_path, node, ws=[first, second], tables="[limits]\nreturn_s = 1.0")
    with collector(tmp_path, "--config", config) as running:
        running.await_live()
        assert running.log.count(f"connected to {first}") == 1
        proxy.refuse()
        proxy.cut()
        cut_at = time.monotonic()
        eventually(
            lambda: f"connected to {second}" in running.log, within_s=30, what="the second one"
        )
        status = running.await_live(within_s=60)
        log.info("live on the second after %.1f s", time.monotonic() - cut_at)
        assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0)
        proxy.heal()
        healed_at = time.monotonic()
        eventually(
            lambda: running.log.count(f"connected to {first}") >= 2, within_s=60, what="return"
        )
        status = running.await_live(within_s=60)
        log.info("live on the first after %.1f s", time.monotonic() - healed_at)
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0)


def with_heights(listener: Listener, *, count: int) -> list[Gap]:
    """Return the open gaps whose last height is known, once there are this many."""
    gaps = [gap for gap in listener.drain().gaps("open") if gap.last]
    return gaps if len(gaps) == count else []


def test_a_hole_that_nobody_can_fill_is_announced_with_its_heights_and_stays(
    node: Devnet, proxy: FaultProxy, tmp_path: Path
) -> None:
    config = configure(tmp_path, node, ws=[through(proxy)], tables="[limits]\nreplay_blocks = 3")
    with collector(tmp_path, "--config", config) as running:
        head = running.await_live()["blocks"]["last"]
        with Listener(running) as listener:
            proxy.refuse()
            proxy.cut()
            blocks_later(node, 8)
            proxy.heal()
            eventually(
                lambda: running.status()["gaps"]["open"] == len(node.markets),
                within_s=30,
                what="a gap of every market",
            )
            announced = eventually(
                lambda: with_heights(listener, count=len(node.markets)),
                within_s=30,
                what="heights of every market's hole",
            )
            status = eventually(
                lambda: (s := running.status())["coverage"]["now"] == 1.0 and s,
                within_s=30,
                what="all live",
            )
            holes = {hole["symbol"]: hole["heights"] for hole in status["holes"]}
            after = max(gap.last for gap in announced)
            # Whole books are asked for one by one, after the gaps were announced.
            eventually(
                lambda: listener.drain().snapshots(after) == set(holes),
                within_s=30,
                what="a whole book of every market after its hole",
            )
            assert_books_agree(node, running, listener)
    assert all(len(heights) == 1 and heights[0][0] > head for heights in holes.values())
    assert {(g.first, g.last) for g in announced} == {tuple(h[0]) for h in holes.values()}
    assert not listener.gaps("closed")
    assert status["gaps"]["open"] == len(node.markets)
    assert status["blocks"]["missing"] == sum(h[0][1] - h[0][0] + 1 for h in holes.values())
    assert status["completeness"] < 1.0


def test_garbage_costs_the_connection_and_nothing_else(
    node: Devnet, proxy: FaultProxy, tmp_path: Path
) -> None:
    config = configure(tmp_path, node, ws=[through(proxy)])
    with collector(tmp_path, "--config", config) as running:
        running.await_live()
        with Listener(running) as listener:
            first = first_due(node)

            def lines() -> list[str]:
                return running.log.splitlines()

            def given_up() -> bool:
                # A byte that is not even looked at does no harm: spoil another.
                proxy.corrupt()
                # The path of our folder is in the log too, and has the word in it.
                return any("garbage" in line and "reconnecting" in line for line in lines())

            eventually(given_up, within_s=60, every_s=1.0, what="garbage in the log")
            proxy.heal()
            # Back at once, it may not be past the block yet at which we joined.
            eventually(lambda: running.status()["blocks"]["last"] > first, within_s=30)
            status = running.await_live()
            last = status["blocks"]["last"]
            assert_every_trade_once(node, listener, first, last)
            assert_books_agree(node, running, listener)
            assert not listener.lost
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0)
