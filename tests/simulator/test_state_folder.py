"""A state folder outlives the run: what it was, and what comes of that."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from collector import Book, ChainReplaced, Lost, Subscriber, Trades
from collector.aggregator.state_saver import StateSaver
from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.system.running import Running, collector, eventually, free_port_pair, run

_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """A busy exchange that goes on while the collector is away."""
    with simulator("--markets", "6", "--block-time", "0.1") as running:
        yield running


class Reading:
    """A subscriber that stays connected over the collector's absence."""

    def __init__(self, publish: str) -> None:
        self.subscriber = Subscriber(publish)
        self.lost: list[Any] = []
        self.books: dict[str, list[int]] = {}
        self.trades: dict[str, set[str]] = {}
        self.doubled = 0
        self.replaced: list[ChainReplaced] = []

    def drain(self, for_s: float) -> None:
        """Read for so long."""
        deadline = time.monotonic() + for_s
        while (left := deadline - time.monotonic()) > 0:
            self._take(left)

    def drain_until(self, venue: Simulator, height: int) -> None:
        """Read until the exchange has made a block."""
        deadline = time.monotonic() + _WITHIN_S
        while venue.head() < height:
            assert time.monotonic() < deadline, f"{venue.head()} of {height}"
            self._take(0.1)

    def _take(self, within_s: float) -> None:
        received = self.subscriber.poll(within_s)
        if received is not None:
            event = received.event
            if isinstance(event, Lost):
                self.lost.append(received)
            elif isinstance(event, ChainReplaced):
                self.replaced.append(event)
            elif isinstance(event, Book) and not event.is_snapshot:
                self.books.setdefault(received.symbol, []).append(event.sequence)
            elif isinstance(event, Trades):
                ids = self.trades.setdefault(received.symbol, set())
                for trade in event.trades:
                    self.doubled += trade.trade_id in ids
                    ids.add(trade.trade_id)


@contextlib.contextmanager
def reading(publish: str) -> Iterator[Reading]:
    reader = Reading(publish)
    with reader.subscriber:
        yield reader


def _kill_everything(running: Running) -> None:
    family = [*psutil.Process(running.process.pid).children(recursive=True)]
    os.kill(running.process.pid, signal.SIGKILL)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, 10)
    running.process.wait(90)


@pytest.mark.parametrize("how", ["kill -9 of everything", "SIGTERM"])
def test_a_run_takes_up_where_the_one_before_it_ended(
    venue: Simulator, tmp_path: Path, how: str
) -> None:
    publish = f"tcp://127.0.0.1:{free_port_pair()}"
    options = ("--config", str(venue.config(tmp_path)), "--state", str(tmp_path / "kept"))
    with reading(publish) as reader:
        with collector(tmp_path, *options, "--shards", "2", publish=publish) as first:
            before = first.await_live()
            reader.drain(3.0)
            if how == "SIGTERM":
                assert first.stop() == 0
            else:
                _kill_everything(first)
        reader.drain_until(venue, venue.head() + 40)
        # Another number of shards: the earlier owners do not count.
        with collector(tmp_path, *options, "--shards", "3", publish=publish) as second:
            after = second.await_live(_WITHIN_S)
            reader.drain(4.0)
            assert after["completeness"] == 1.0
            assert after["blocks"]["first"] == before["blocks"]["first"]
            assert after["blocks"]["replayed"] > 6 * 30
            assert after["publisher_epoch"] > before["publisher_epoch"]
            assert after["state"]["folder"] == str(tmp_path / "kept")
            assert after["state"]["taken_up"]["markets"] == 6
            assert "resuming the state of another run: 6 markets" in second.log
            assert not reader.lost
            assert not reader.doubled
            for symbol, sequences in reader.books.items():
                due = list(range(sequences[0], sequences[0] + len(sequences)))
                assert sequences == due, symbol
            assert len(reader.books) >= 5, "one market of the six is quiet"


def test_an_absence_for_which_no_book_is_kept_loses_no_change(
    venue: Simulator, tmp_path: Path
) -> None:
    """The node has the absence's block results, but its oldest book is newer than the absence."""
    publish = f"tcp://127.0.0.1:{free_port_pair()}"
    options = ("--config", str(venue.config(tmp_path)), "--state", str(tmp_path / "kept"))
    with reading(publish) as reader:
        with collector(tmp_path, *options, "--shards", "2", publish=publish) as first:
            first.await_live()
            reader.drain(2.0)
            assert first.stop() == 0
        venue.inject(faults.PrunedStates(kept=10))
        reader.drain_until(venue, venue.head() + 60)
        with collector(tmp_path, *options, "--shards", "3", publish=publish) as second:
            after = second.await_live(_WITHIN_S)
            reader.drain(3.0)
        venue.heal()
    assert after["blocks"]["replayed"] > 6 * 40
    assert (after["completeness"], after["blocks"]["missing"]) == (1.0, 0), after["holes"]
    assert (reader.lost, reader.doubled) == ([], 0)
    assert len(reader.books) >= 5, "one market of the six is quiet"
    for symbol, sequences in reader.books.items():
        assert sequences == list(range(sequences[0], sequences[-1] + 1)), symbol


def test_a_state_of_a_chain_that_was_replaced_meanwhile_is_closed(tmp_path: Path) -> None:
    """A collector is away while its chain restarts, so it does not see it; its reader waits."""
    publish = f"tcp://127.0.0.1:{free_port_pair()}"
    with (
        simulator("--markets", "6", "--block-time", "0.1", "--touched", "all") as venue,
        reading(publish) as reader,
    ):
        options = ("--config", str(venue.config(tmp_path)), "--state", str(tmp_path / "kept"))
        with collector(tmp_path, *options, publish=publish) as first:
            before = first.await_live()
            reader.drain(2.0)
            assert first.stop() == 0
        venue.begin_again(2)
        old_head = before["blocks"]["last"]
        with collector(tmp_path, *options, publish=publish) as second:
            eventually(
                lambda: (second.status().get("chain") or {}).get("former"),
                within_s=30,
                what=lambda: f"the former chain; log:\n{second.log}",
            )
            after = second.await_live(_WITHIN_S)
            (former,) = after["chain"]["former"]
            assert (former["last"] >= old_head, former["missing"]) == (True, 0), former
            assert after["blocks"]["first"] <= venue.head()
            assert (after["completeness"], after["gaps"]["open"]) == (1.0, 0)
            symbol = next(iter(reader.books))
            # What the first one published last may still be on its way.
            eventually(lambda: _is_informed(reader), within_s=30, what="word of another chain")
            reader.books.clear()
            eventually(lambda: _heard(reader, symbol), within_s=30, what="new changes")
            assert len(reader.replaced) == 1
            # The new chain's count is its own: nothing of it was joined to the old one.
            (market,) = [m for m in second.markets() if m["symbol"] == symbol]
            truth = venue.book(market["ticker"], venue.head())
            assert reader.books[symbol][-1] <= truth.sequence


def _is_informed(reader: Reading) -> bool:
    reader.drain(0.2)
    return bool(reader.replaced)


def _heard(reader: Reading, symbol: str) -> list[int] | None:
    reader.drain(0.2)
    return reader.books.get(symbol)


def test_a_damaged_state_is_set_aside_with_a_warning(venue: Simulator, tmp_path: Path) -> None:
    options = ("--config", str(venue.config(tmp_path)), "--state", str(tmp_path / "kept"))
    with collector(tmp_path, *options) as first:
        first.await_live()
        eventually(lambda: (tmp_path / "kept" / "journal").exists(), within_s=30)
        first.stop()
    for name in ("ledger", "journal", "epochs", "identity"):
        path = tmp_path / "kept" / name
        path.write_bytes(path.read_bytes()[:-2])
    with collector(tmp_path, *options) as second:
        status = second.await_live()
        assert status["state"]["taken_up"] is None
        assert second.log.count("cannot be used: it is cut short or damaged") == 4
        assert (tmp_path / "kept" / "ledger.set-aside").exists()


def test_a_second_start_on_the_same_state_is_refused(venue: Simulator, tmp_path: Path) -> None:
    config = str(venue.config(tmp_path))
    state = ("--state", str(tmp_path / "kept"))
    with collector(tmp_path, "--config", config, *state) as first:
        first.await_live()
        other = f"tcp://127.0.0.1:{free_port_pair()}"
        done = run("start", "--config", config, *state, "--publish", other)
        assert done.returncode == 3
        assert (
            f"the state in {tmp_path / 'kept'} is in use by the collector with process id "
            f"{first.process.pid}, publishing on {first.publish}: stop that one" in done.stderr
        )
        eventually(first.live, within_s=30, what="all live")


def test_the_state_of_another_network_is_refused(venue: Simulator, tmp_path: Path) -> None:
    config = str(venue.config(tmp_path))
    state = ("--state", str(tmp_path / "kept"))
    with collector(tmp_path, "--config", config, *state) as first:
        first.await_live()
        first.stop()
    done = run("start", "--network", "testnet", *state)
    assert done.returncode == 3
    assert "is of the network local, not of testnet: give another folder" in done.stderr


def test_a_state_that_cannot_be_kept_is_refused_only_where_it_was_asked_for(
    venue: Simulator, tmp_path: Path
) -> None:
    config = str(venue.config(tmp_path))
    done = run("start", "--config", config, "--state", "/proc/nowhere")
    assert done.returncode == 3
    assert "--state: cannot keep a state in /proc/nowhere" in done.stderr
    with collector(tmp_path, "--config", config, env={"XDG_STATE_HOME": "/proc"}) as running:
        status = running.await_live()
        assert status["state"]["folder"] is None
        assert "the state ends with this run" in running.log


def test_what_is_too_long_ago_is_named_as_missing(venue: Simulator, tmp_path: Path) -> None:
    """Of every market, also of one that was that far behind the others before the absence."""
    config = venue.config(tmp_path, extra="[limits]\nreplay_blocks = 40\n")
    options = ("--config", str(config), "--state", str(tmp_path / "kept"))
    with collector(tmp_path, *options) as first:
        before = first.await_live()
        lagging = first.markets()[0]
        first.stop()
    state = StateSaver(tmp_path / "kept")
    ledger = state.load()
    (of_lagging,) = [m for m in ledger.markets if m.market_id == lagging["market_id"]]
    of_lagging.last -= 50
    of_lagging.first -= 50
    state.save_now(ledger)
    venue.await_height(venue.head() + 120)
    with collector(tmp_path, *options) as second:
        status = eventually(
            lambda: _named_holes(second), within_s=_WITHIN_S, what=lambda: second.status()
        )
        head = venue.head()
        assert status["blocks"]["first"] == of_lagging.first
        assert {hole["symbol"] for hole in status["holes"]} == {
            market["symbol"] for market in second.markets()
        }
        for hole in status["holes"]:
            ((lowest, highest),) = hole["heights"]
            is_lagging = hole["symbol"] == lagging["symbol"]
            assert (lowest < before["blocks"]["last"] - 40) == is_lagging
            assert lowest <= before["blocks"]["last"] + 40
            assert highest - lowest + 1 > 60
            assert highest < head - 30, "the newest blocks were replayed"
        assert status["blocks"]["missing"] > 6 * 60
        assert status["completeness"] < 1.0
        assert status["gaps"]["open"] == 6, "one a market, with its heights"
        assert status["blocks"]["replayed"] >= 6 * 30


def _named_holes(running: Running) -> dict[str, Any]:
    """Return the status once every market is live again and has one hole; empty before."""
    status = running.peek()
    if not status or status["markets"]["live"] < 6 or status["gaps"]["open"] != 6:
        return {}
    return status if len(status["holes"]) == 6 else {}
