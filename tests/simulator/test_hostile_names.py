"""Anybody may launch a market, under any name: each is collected, told apart, found and shown."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.client.subscriber import Subscriber
from tests.simulator.client import Simulator, simulator
from tests.system.running import Running, collector, run

NAMES = (
    "INJ/USDT",
    "INJ/USDT.",
    "INJ/USDT ",
    " INJ/USDT",
    "A[1]/USDT",
    "*",
    "chain",
    "\x1b[31mred\x1b[0m\r\n/USDT",
    "\u202eTDSU/JNI",
    "אבג/USDT",
    "Ж/USDT",
    "x" * 200,
    "",
)


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """An exchange that lists them all."""
    with simulator("--markets", "2", "--block-time", "0.2") as running:
        for name in NAMES:
            running.list_market(name)
        yield running


@pytest.fixture(scope="module")
def running(venue: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector of it, everything live."""
    folder = tmp_path_factory.mktemp("collector")
    with collector(folder, "--shards", "2", "--config", str(venue.config(folder))) as started:
        started.await_live()
        yield started


def test_each_has_a_symbol_of_its_own_and_the_honest_one_its_usual(running: Running) -> None:
    symbols = {row["ticker"]: row["symbol"] for row in running.markets()}
    assert set(NAMES) <= set(symbols)
    assert len(set(symbols.values())) == len(symbols)
    assert symbols["INJ/USDT"] == "INJ-USDT"


def test_each_is_published_whole_under_its_own_topic(running: Running) -> None:
    wanted = {row["symbol"]: row["market_id"] for row in running.markets()}
    books: dict[str, set[str]] = {}
    with Subscriber(running.publish, channels="book") as subscriber:
        while len(books) < len(wanted):
            received = subscriber.poll(30.0)
            assert received is not None, set(wanted) - set(books)
            if received.channel == "book":
                books.setdefault(received.symbol, set()).add(
                    getattr(received.event, "market_id", "")
                )
    assert books == {symbol: {market_id} for symbol, market_id in wanted.items()}


@pytest.mark.parametrize("name", NAMES)
def test_tail_finds_it_by_its_ticker_and_by_its_symbol(running: Running, name: str) -> None:
    symbol = next(row["symbol"] for row in running.markets() if row["ticker"] == name)
    for given in {symbol, name} - {"", "*", "chain"}:
        tail = ("tail", "--connect", running.publish, "--channel", "book", "-n", "1", "--json")
        done = run(*tail, "--market", given)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["symbol"] == symbol


def test_what_is_shown_commands_no_terminal(
    venue: Simulator, running: Running, tmp_path: Path
) -> None:
    for arguments in (
        ("markets", "--connect", running.publish),
        ("markets", "--config", str(venue.config(tmp_path))),
        ("status", "--connect", running.publish),
    ):
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
        assert all(c.isprintable() for c in done.stdout.replace("\n", ""))
        assert "\u05d0" not in done.stdout
    assert all(c.isprintable() for c in running.log.replace("\n", ""))
