"""Source indexer-grpc as users run it: many markets, a low limit, killed processes, moves."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.proxy import FaultProxy
from tests.simulator import faults, heard
from tests.simulator.client import Simulator, simulator
from tests.system.listening import Listener
from tests.system.running import Running, collector, eventually, run

BRISK = """
[limits]
probe_s = 0.3
probe_grace_s = 0.6
audit_s = 0.4
"""


def configured(folder: Path, venue: Simulator, extra: str = BRISK) -> tuple[str, ...]:
    """Write a configuration that names the indexer and nothing else; return the options."""
    path = folder / "collector.toml"
    path.write_text(f'[network]\nindexer = ["{venue.indexer}"]\n{extra}')
    return "--config", str(path), "--source", "indexer-grpc"


def test_three_hundred_markets_over_four_shards(tmp_path: Path) -> None:
    shares = ("--dead", "0.1", "--quiet", "0.3", "--paused", "0")
    served = ("--block-time", "1.0", "--indexer-streams", "100")
    with simulator("--markets", "300", *shares, *served) as venue:
        options = configured(tmp_path, venue, extra="")
        with collector(tmp_path, "--shards", "4", *options) as running:
            status = running.await_live(within_s=90)
            assert status["markets"]["live"] == status["markets"]["requested"] >= 298
            # Long enough for every market to have been judged a few times.
            for height in range(venue.head() + 3, venue.head() + 13, 3):
                venue.await_height(height)
                rows = running.markets()
                states = Counter(market["state"] for market in rows)
                assert states == {"live": status["markets"]["requested"]}
            busy = {market["market_id"]: not market["quiet"] for market in venue.markets}
            still = {"quiet": 90, "dead": 30}

            def classified() -> bool:
                found = [(busy[row["market_id"]], row["activity"]) for row in running.markets()]
                others = Counter(activity for is_busy, activity in found if not is_busy)
                return others == still and {a for is_busy, a in found if is_busy} == {"active"}

            eventually(classified, within_s=60, every_s=0.5, what="every market classified right")
            status = running.status()
    assert status["gaps"] == {"opened": 0, "closed": 0, "open": 0}
    assert status["trade_proof"]["reason"] == "not provable: the indexer tells no blocks"
    assert not status["blocks"]["provable"]
    assert status["blocks"]["due"] == status["blocks"]["missing"] == 0
    assert status["events"]["trades"]
    assert status["events"]["book_updates"]
    assert "streams per connection" not in running.log


def test_calls_that_wait_behind_a_limit_get_connections_of_their_own(tmp_path: Path) -> None:
    options = ("--markets", "24", "--quiet", "1.0", "--dead", "0", "--paused", "0")
    # All are quiet: no stream of these will ever say whether it is served.
    with (
        simulator(*options, "--indexer-streams", "16") as venue,
        collector(tmp_path, *configured(tmp_path, venue)) as running,
    ):
        running.await_live(within_s=60)
        markets = running.status()["markets"]["requested"]
        eventually(lambda: venue.stats()["indexer_calls"] >= 2 * markets, within_s=30)
        calls = venue.stats()["indexer_calls"]
        eventually(lambda: "serves fewer than" in running.log, within_s=30)
    assert calls == 2 * markets


def trades_once(venue: Simulator, listener: Listener, first: int) -> Callable[[], bool]:
    """Say whether all trades from a height on were heard."""

    def complete() -> bool:
        due = heard.true_trades(venue, first, venue.head()).keys()
        return not due - listener.drain().trades(first, venue.head()).keys()

    return complete


def check(venue: Simulator, running: Running, listener: Listener, first: int) -> None:
    """Stop the chain; then every trade came once, and every book is what it should be."""
    venue.inject(faults.Halt(for_s=300.0))
    eventually(trades_once(venue, listener, first), within_s=40, what=lambda: running.log)
    eventually(running.live, within_s=40, what=lambda: f"{running.markets()}\n{running.log}")
    last = venue.head()
    due = Counter(heard.true_trades(venue, first, last).keys())
    assert listener.drain().trades(first, last) == due

    def books_agree() -> bool:
        return all(_agrees(venue, listener.drain(), market) for market in running.markets())

    eventually(books_agree, within_s=30, what="books as the exchange has them")
    # An indexer cannot supply missed book changes; no trade is lost.
    assert {lost.unit for lost in listener.lost} <= {"sequence"}
    venue.heal()


def _agrees(venue: Simulator, listener: Listener, market: dict[str, Any]) -> bool:
    _, book = listener.book(market["symbol"])
    sequence, _ = heard.true_book(venue, market["market_id"])
    return book is not None and book.sequence == sequence


def kill(running: Running, names: list[str]) -> None:
    """Kill some processes and wait until others have taken over."""
    old = [running.pid(name) for name in names]
    for pid in old:
        os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        new = [running.pid(name) for name in names]
        return all(new) and not set(new) & set(old) and running.live()

    eventually(replaced, within_s=40, what=lambda: running.log)


def listen_on(venue: Simulator, listener: Listener, *, blocks: int) -> None:
    """Keep listening while the chain makes some blocks."""
    height = venue.head() + blocks

    def made() -> bool:
        listener.drain()
        return venue.head() >= height

    eventually(made, within_s=30, what="more blocks")


def test_every_process_may_be_killed(tmp_path: Path) -> None:
    with simulator("--markets", "12", "--block-time", "0.4", "--matches", "6") as venue:
        options = configured(tmp_path, venue)
        with collector(tmp_path, "--shards", "2", *options) as running:
            running.await_live()
            with Listener(running) as listener:
                first = venue.head() + 2
                eventually(
                    lambda: listener.drain().trades(first, 10**9), within_s=30, what="a trade"
                )
                for victims in (["shard 0"], ["aggregator"], ["shard 1", "aggregator"]):
                    kill(running, victims)
                    # A subscriber that listens learns within seconds how far all this has got.
                    listen_on(venue, listener, blocks=8)
                check(venue, running, listener, first)
                eventually(
                    lambda: "crash" in {gap.cause for gap in listener.drain().gaps("closed")},
                    within_s=30,
                    what="the end of a gap by a crash",
                )


def test_markets_move_between_shards(tmp_path: Path) -> None:
    with simulator("--markets", "12", "--block-time", "0.15", "--matches", "4") as venue:
        options = configured(tmp_path, venue)
        with collector(tmp_path, "--shards", "2", *options) as running:
            running.await_live()
            with Listener(running) as listener:
                first = venue.head() + 2
                answer = run("scale", "3", "--connect", running.publish)
                assert answer.returncode == 0, f"{answer.stderr}\n{running.log}"
                eventually(
                    lambda: len({market["shard"] for market in running.markets()}) == 3,
                    within_s=40,
                    what=lambda: f"{running.markets()}\n{running.log}",
                )
                check(venue, running, listener, first)


def test_the_next_endpoint_is_taken_and_the_first_returned_to(tmp_path: Path) -> None:
    with simulator("--markets", "8", "--block-time", "0.2", "--matches", "4") as venue:
        host, _, port = venue.indexer.rpartition(":")
        with FaultProxy(host, int(port)) as proxy:
            first = f"127.0.0.1:{proxy.port}"
            path = tmp_path / "collector.toml"
            path.write_text(
                f'[network]\nindexer = ["{first}", "{venue.indexer}"]\n{BRISK}return_s = 0.5\n'
            )
            options = ("--config", str(path), "--source", "indexer-grpc")
            with collector(tmp_path, *options) as running, Listener(running) as listener:
                running.await_live()
                listen_on(venue, listener, blocks=4)
                since = venue.head()
                proxy.refuse()
                proxy.cut()
                eventually(lambda: in_use(running) == venue.indexer, within_s=60, what="the next")
                running.await_live()
                proxy.heal()
                eventually(lambda: in_use(running) == first, within_s=30, what="the first again")
                running.await_live()
                check(venue, running, listener, since)


def in_use(running: Running) -> str:
    """Return the endpoint that a shard reads now."""
    (shard,) = running.peek().get("shards", [{"endpoints": []}])
    return next((e["endpoint"] for e in shard["endpoints"] if e["in_use"]), "")
