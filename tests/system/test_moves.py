"""Markets that move, come and go under traffic: nothing lost, nothing doubled, no market left out."""

from pathlib import Path

import pytest

from collector.client.subscriber import Subscriber
from shards.protocol.events import Book, Gap
from tests.system.moves import moves, table
from tests.system.running import Devnet, collector, eventually, run

pytestmark = pytest.mark.node


@pytest.mark.parametrize(
    ("source", "count", "seed"),
    [
        ("chain-ws", 4, 4),
        ("chain-grpc", 2, 6),
        pytest.param("chain-ws", 30, 4, marks=pytest.mark.nightly),
        pytest.param("chain-grpc", 30, 6, marks=pytest.mark.nightly),
    ],
)
def test_random_moves_lose_nothing_and_double_nothing(
    tmp_path: Path, source: str, count: int, seed: int
) -> None:
    result = moves(tmp_path, count=count, seed=seed, pause_s=0.2, spot=8, perp=2, source=source)
    said = f"{result.findings.table()}\n{table(result.moves)}\n{result.moves}"
    assert result.passed, said
    assert result.findings.trades.checked > 0
    assert result.findings.books.checked > 0


def test_a_market_that_is_added_reaches_early_and_late_subscribers(
    node: Devnet, tmp_path: Path
) -> None:
    config = str(node.config(tmp_path))
    with collector(
        tmp_path,
        "--config",
        config,
        "--shards",
        "2",
        "--market",
        "BTC/USDT",
        "--market",
        "ETH/USDT",
    ) as running:
        running.await_live()
        assert not running.status()["trade_proof"]["provable"]
        with Subscriber(running.publish, markets=["INJ*"]) as early:
            eventually(lambda: early.poll(0.1), within_s=30, what="an answer")
            added = run("add", "inj/usdt", "--connect", running.publish)
            assert added.stdout.startswith("added INJ-USDT: 3 markets"), added.stderr
            assert _book(early, "INJ-USDT").is_snapshot
            with Subscriber(running.publish, markets=["INJ-USDT"]) as late:
                assert _book(late, "INJ-USDT").is_snapshot
            again = run("add", "INJ-USDT", "--connect", running.publish)
            assert again.returncode == 3
            assert "INJ-USDT is collected already" in again.stderr
            removed = run("remove", "inj*", "--connect", running.publish)
            assert removed.stdout.startswith("removed INJ-USDT: 2 markets"), removed.stderr
            gap = eventually(lambda: _gap(early), within_s=30, what="the gap that says so")
            assert (gap, running.status()["gaps"]["open"]) == ("removed", 0)
        assert {row["symbol"] for row in running.markets()} == {"BTC-USDT", "ETH-USDT"}
        assert running.status()["coverage"]["now"] == 1.0


def _book(subscriber: Subscriber, symbol: str) -> Book:
    """Wait for a market's first book."""

    def heard() -> Book | None:
        received = subscriber.poll(0.1)
        if received is None or received.symbol != symbol:
            return None
        return received.event if isinstance(received.event, Book) else None

    book = eventually(heard, within_s=30, every_s=0.0, what=f"a book of {symbol}")
    assert book is not None
    return book


def _gap(subscriber: Subscriber) -> str:
    received = subscriber.poll(0.1)
    return received.event.cause if received and isinstance(received.event, Gap) else ""
