"""`collector relay` in a process of its own, between a scripted publisher and real readers."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector import Book, Gap, Joined, Lost, Received, Subscriber, Trades
from collector.aggregator.replay_buffer import ReplayBuffer
from collector.client.requests import RequestClient
from collector.settings.parts import requests_endpoint
from tests.collector.client.scripted_publisher import (
    Script,
    ScriptedPublisher,
    delta,
    free_endpoint,
    market_id,
    publishing,
    trades,
)
from tests.collector.client.test_cells import beginning
from tests.collector.client.test_subscriber import INJ, until
from tests.system.drill.clocks import Clock
from tests.system.running import COLLECTOR, eventually

MARKETS = [{"market_id": market_id(INJ), "ticker": "INJ/USDT", "symbol": INJ}]


class Relay:
    """A running relay, which can be killed and started again at its place."""

    def __init__(self, connect: str, publish: str = "", *, log: bool = False) -> None:
        self.publish = publish or free_endpoint()
        self._log = tempfile.NamedTemporaryFile() if log else None  # noqa: SIM115
        self.environment: dict[str, str] = {}
        self._connect = connect
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*COLLECTOR, "relay", "--connect", self._connect, "--publish", self.publish],
            env={**os.environ, **self.environment},
            stderr=self._log,
        )

    def log(self) -> str:
        """Return what it has logged, if that is kept."""
        assert self._log is not None
        return Path(self._log.name).read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(90)


@contextlib.contextmanager
def relaying(connect: str, *, log: bool = False) -> Iterator[Relay]:
    relay = Relay(connect, log=log)
    relay.start()
    try:
        yield relay
    finally:
        relay.stop(signal.SIGKILL)


def block(publisher: ScriptedPublisher, height: int) -> None:
    """Publish a block: a book change and a trade."""
    publisher.send(INJ, delta(INJ, height, height - 99))
    publisher.send(INJ, trades(INJ, height))
    publisher.script.head = height


def heights(out: list[Received]) -> list[int]:
    return [r.event.height for r in out if isinstance(r.event, Trades)]


def at(height: int) -> object:
    return lambda r: isinstance(r.event, Trades) and r.event.height == height


def test_readers_have_everything_also_over_a_relay_that_is_killed() -> None:
    with publishing(Script(markets=MARKETS)) as publisher:
        beginning(publisher)
        for height in range(101, 111):
            block(publisher, height)
        with (
            relaying(publisher.endpoint) as first,
            relaying(first.publish) as second,
            Subscriber(second.publish, markets=[INJ], keep_books=True, silent_s=30) as reader,
        ):
            out = until(reader, lambda r: r.channel == "book", 30)
            assert isinstance(out[0].event, Joined)
            for height in range(111, 121):
                block(publisher, height)
            out += until(reader, at(120), 30)  # type: ignore[arg-type]
            # A late joiner begins with the book as it is.
            with Subscriber(first.publish, markets=[INJ], channels="book") as late:
                book = until(late, lambda r: isinstance(r.event, Book) and r.event.sequence == 21)
            assert any(isinstance(r.event, Book) and r.event.is_snapshot for r in book)
            for height, relay in ((130, second), (140, first)):
                assert relay.stop(signal.SIGKILL) == -signal.SIGKILL
                for one in range(height - 9, height + 1):
                    block(publisher, one)
                relay.start()
                out += until(reader, at(height), 40)  # type: ignore[arg-type]
            block(publisher, 141)
            out += until(reader, at(141), 30)  # type: ignore[arg-type]
            kept = reader.book(INJ)
            assert first.stop() == 0
    assert not [r for r in out if isinstance(r.event, Lost | Gap)]
    got = heights(out)
    assert got == list(range(got[0], 142))
    assert got[0] <= 111
    changes = [r.event for r in out if isinstance(r.event, Book)]
    assert changes[0].is_snapshot
    sequences = [change.sequence for change in changes if not change.is_snapshot]
    assert sequences == list(range(sequences[0], 43))
    assert sequences[0] == changes[0].sequence + 1
    assert kept is not None
    assert kept.sequence == 42


def test_a_relay_that_returns_with_its_clock_an_hour_behind_is_another_publisher(
    tmp_path: Path,
) -> None:
    clock = Clock(tmp_path)
    with publishing(Script(markets=MARKETS)) as publisher:
        beginning(publisher)
        for height in range(101, 111):
            block(publisher, height)
        with (
            relaying(publisher.endpoint) as relay,
            Subscriber(relay.publish, markets=[INJ], channels="trades", silent_s=30) as reader,
        ):
            out = until(reader, lambda r: isinstance(r.event, Joined), 30)
            block(publisher, 111)
            out += until(reader, at(111), 30)  # type: ignore[arg-type]
            relay.environment = clock.environment
            for height, offset in ((121, "-1h"), (131, "-2h")):
                clock.set(offset)
                relay.stop(signal.SIGKILL)
                for one in range(height - 9, height + 1):
                    block(publisher, one)
                relay.start()
                out += until(reader, at(height), 40)  # type: ignore[arg-type]
    assert not [r for r in out if isinstance(r.event, Lost | Gap)]
    assert heights(out) == list(range(111, 132))
    epochs = [r.event.publisher_epoch for r in out if isinstance(r.event, Joined)]
    assert len(set(epochs)) == 3
    assert epochs == sorted(epochs, reverse=True), "its clock went back each time"


def test_what_a_relay_lost_is_a_gap_for_its_readers() -> None:
    with publishing(Script(markets=MARKETS)) as publisher:
        publisher.script.history.frames_per_topic = 2
        beginning(publisher)
        with (
            relaying(publisher.endpoint) as relay,
            Subscriber(relay.publish, markets=[INJ], channels=["trades", "gap"]) as reader,
        ):
            until(reader, lambda r: isinstance(r.event, Joined), 30)
            eventually(
                lambda: b"\x01trades." in publisher.subscriptions, within_s=30, what="the relay"
            )
            block(publisher, 101)
            out = until(reader, at(101), 30)  # type: ignore[arg-type]
            for height in range(102, 108):
                publisher.drop(INJ, trades(INJ, height))
            publisher.script.head = 108
            publisher.send(INJ, trades(INJ, 108))
            out += until(reader, at(108), 30)  # type: ignore[arg-type]
    gaps = [r.event for r in out if isinstance(r.event, Gap)]
    assert [(gap.state, gap.cause, gap.first) for gap in gaps] == [("open", "slow-subscriber", 102)]
    missing = set(range(gaps[0].first, gaps[0].last + 1))
    assert set(heights(out)) | missing == set(range(101, 109))
    assert not set(heights(out)) & missing


def test_other_requests_go_on_to_the_cell() -> None:
    with publishing(Script(markets=MARKETS)) as publisher:
        beginning(publisher)
        with (
            relaying(publisher.endpoint) as relay,
            RequestClient(requests_endpoint(relay.publish)) as client,
        ):
            status = client.ask("status", within_s=30)["status"]
            assert status["relay"]["connect"] == publisher.endpoint
            assert status["coverage"] == {"now": 1.0}
            assert client.ask("markets", within_s=30)["markets"] == MARKETS
            with pytest.raises(ValueError, match="not understood"):
                client.ask("order", within_s=30)


def test_the_heights_of_a_replaced_chain_are_not_those_of_the_new_one() -> None:
    """Also while nothing of the new chain is published yet."""
    endpoint = free_endpoint()
    with relaying(endpoint, log=True) as relay:
        for epoch, chain, head in ((1, 0, 100_000), (2, 9, 0)):
            script = Script(epoch, ReplayBuffer(64), head, markets=MARKETS)
            script.history.chain = chain
            with publishing(script, endpoint) as publisher:
                if chain:
                    eventually(lambda: "0 topics" in relay.log(), within_s=30)
                for channel in ("trades", "gap"):
                    script.history.begin(f"{channel}.{INJ}.", head + 1)
                for height in range(head + 1, head + 4):
                    publisher.send(INJ, trades(INJ, height))
                    script.head = height
                with RequestClient(requests_endpoint(relay.publish)) as client:
                    eventually(lambda: _head(client) == head + 3, within_s=30)  # noqa: B023
                with Subscriber(relay.publish, markets=[INJ], history=True) as reader:
                    out = until(reader, at(head + 3), 30)  # type: ignore[arg-type]
                assert heights(out) == [head + 1, head + 2, head + 3]


def _head(client: RequestClient) -> int:
    try:
        return int(client.ask("topics", within_s=1, prefixes=[])["head"])
    except TimeoutError:
        return -1


def test_a_relay_names_the_channels_of_its_cells_once_all_have_said_them() -> None:
    one, other = (
        Script(markets=MARKETS, origin={"channels": ["gap", name]}) for name in ("book", "trades")
    )
    endpoint = free_endpoint()
    with (
        publishing(one) as publisher,
        relaying(f"{publisher.endpoint},{endpoint}") as relay,
        Subscriber(relay.publish, markets=[INJ], silent_s=30) as reader,
    ):
        beginning(publisher)
        until(reader, lambda r: r.channel == "book", 30)
        publisher.send(INJ, delta(INJ, 101, 2))
        until(reader, lambda r: r.channel == "book", 30)
        assert not reader.inbox.publisher.channels
        with publishing(other, endpoint):
            eventually(
                lambda: reader.poll(0.1) is None and reader.inbox.publisher.channels, within_s=30
            )
            assert reader.inbox.publisher.channels == {"gap", "book", "trades"}


def test_relays_that_read_each_other_say_so_and_go_on() -> None:
    with publishing(Script(markets=MARKETS, origin={"chain_id": "injective-1"})) as publisher:
        beginning(publisher)
        second = free_endpoint()
        with relaying(f"{publisher.endpoint},{second}", log=True) as relay:
            behind = Relay(relay.publish, publish=second)
            behind.start()
            try:
                eventually(
                    lambda: "reads this relay" in relay.log(),
                    within_s=30,
                    what=lambda: relay.log(),
                )
                block(publisher, 101)
                with Subscriber(behind.publish, markets=[INJ], history=True) as reader:
                    until(reader, at(101), 30)  # type: ignore[arg-type]
                    assert reader.inbox.publisher.chain_id == "injective-1"
                    assert len(reader.inbox.publisher.relays) == 2
            finally:
                behind.stop(signal.SIGKILL)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_relay_of_itself_is_refused(host: str) -> None:
    relay = [sys.executable, "-m", "collector", "relay", "--connect", f"tcp://{host}:5600"]
    done = subprocess.run(
        [*relay, "--publish", "tcp://0.0.0.0:5600", "--insecure"],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "where this relay publishes" in done.stderr


def test_an_open_address_without_keys_is_refused() -> None:
    relay = [sys.executable, "-m", "collector", "relay", "--connect", "tcp://127.0.0.1:9"]
    done = subprocess.run(
        [*relay, "--publish", "tcp://0.0.0.0:5600"],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "--keys" in done.stderr
