"""An archive made under kills, replayed: its facts are those that went out live, byte for byte."""

import os
import signal
import subprocess
import threading
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from collector.archive.reading.overview import overview
from collector.client.received import Joined, Lost, Received
from collector.client.subscriber import Subscriber
from shards.protocol.events import Book, Level, Trades
from tests.simulator.client import simulator
from tests.system.recorders import record, sealed_through
from tests.system.running import COLLECTOR, Running, collector, eventually, free_port_pair

pytest.importorskip("pyarrow")

_SPAN = 10
_PLAYED = 40
"""Heights of the replay at the speed at which they were made; on a busy machine a reader misses many."""

Facts = dict[tuple[str, int, str], bytes]
"""
The MessagePack of each fact, in the order of delivery.

By topic, height, and the book's sequence or the trade's id.
"""


def _sorted(levels: list[Level]) -> list[Level]:
    return sorted(levels, key=lambda level: Decimal(level[0]))


def _add(found: Facts, received: Received) -> int:
    """Keep what an event says of the exchange; return its height."""
    event = received.event
    facts: list[tuple[str, object]] = []
    if isinstance(event, Book) and not event.is_snapshot:
        # A change is a set of levels, which the archive keeps sorted.
        sides = (_sorted(event.bids), _sorted(event.asks))
        facts = [(str(event.sequence), (event.market_id, event.ts_event, sides))]
    elif isinstance(event, Trades):
        facts = [(t.trade_id, (event.market_id, event.ts_event, t)) for t in event.trades]
    for name, fact in facts:
        key = (received.topic, event.height, name)  # type: ignore[union-attr]
        assert key not in found, f"{key} came twice"
        found[key] = msgspec.msgpack.encode(fact)
    return event.height if facts else 0  # type: ignore[union-attr]


class Live(threading.Thread):
    """A subscriber that takes everything, beside the recorder."""

    def __init__(self, publish: str) -> None:
        super().__init__()
        self.facts: Facts = {}
        self.height = 0
        self.lost: list[Lost] = []
        self.stop = threading.Event()
        self._publish = publish

    def run(self) -> None:
        """Take what comes."""
        with Subscriber(self._publish, channels=("book", "trades")) as subscriber:
            while not self.stop.is_set():
                received = subscriber.poll(0.2)
                if received is None:
                    continue
                if isinstance(received.event, Lost):
                    self.lost.append(received.event)
                self.height = max(self.height, _add(self.facts, received))


def _kill_in_journal(running: Running, archive: Path) -> None:
    """Kill a shard; its recorder dies soon after, as soon as it has written."""
    process = record(archive, running.publish, crash_at="journal.appended:40", span=_SPAN)
    os.kill(running.pid("shard 0"), signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL


def _kill_while_sealing(running: Running, archive: Path, point: str) -> None:
    """Have the child that seals die at a named instant, and kill its recorder as well."""
    log = archive.parent / "record.log"
    before = log.stat().st_size
    process = record(archive, running.publish, crash_at=point, span=_SPAN)
    eventually(lambda: b"exit code -9" in log.read_bytes()[before:], within_s=60, what=point)
    process.kill()
    process.wait(90)


def _record_under_kills(running: Running, archive: Path) -> int:
    """Record until the archive has all that was made under kills; return its last height."""
    _kill_in_journal(running, archive)
    _kill_while_sealing(running, archive, "seal.half")
    os.kill(running.pid("aggregator"), signal.SIGKILL)
    _kill_while_sealing(running, archive, "manifest.torn")
    eventually(running.live, within_s=60)
    through = int(running.status()["blocks"]["head"]) + 2 * _SPAN
    recorder = record(archive, running.publish, span=_SPAN)
    try:
        eventually(lambda: sealed_through(archive) >= through, within_s=60, every_s=0.2)
    finally:
        recorder.send_signal(signal.SIGTERM)
        recorder.wait(90)
    return sealed_through(archive)


class Recorded(NamedTuple):
    """An archive with kills in it, and what a subscriber received meanwhile."""

    archive: Path
    live: Facts
    first: int
    last: int


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("kills")
    archive = folder / "archive"
    busy = ("--markets", "6", "--block-time", "0.25", "--touched", "0.5", "--matches", "3")
    with (
        simulator(*busy, "--paused", "0", "--dead", "0") as venue,
        collector(folder, "--config", str(venue.config(folder)), "--shards", "2") as running,
    ):
        running.await_live(60)
        live = Live(running.publish)
        live.start()
        try:
            eventually(lambda: live.height > 0, within_s=30, what="the first frame")
            last = _record_under_kills(running, archive)
            eventually(lambda: live.height > last, within_s=30, what="all frames")
        finally:
            live.stop.set()
            live.join(90)
    assert live.lost == []
    found = overview(archive)
    assert all(day.is_whole for day in found.days)
    return Recorded(archive, live.facts, found.first, last)


def _replayed(archive: Path, last: int, *options: str) -> tuple[Facts, int]:
    """
    Take all facts of a replay through the last height, until it ends by itself.

    Return them, and the height that had gone out when the reader joined.
    """
    found: Facts = {}
    joined = -1
    publish = f"tcp://127.0.0.1:{free_port_pair()}"
    command = [*COLLECTOR, "replay", str(archive), "--publish", publish, "--until", str(last)]
    with subprocess.Popen([*command, *options]) as process:
        try:
            with Subscriber(publish, channels=("book", "trades")) as subscriber:
                is_over = False
                while not is_over or subscriber.pending:
                    is_over = process.poll() is not None
                    while (received := subscriber.poll(0.3)) is not None:
                        if isinstance(received.event, Joined):
                            joined = received.event.head
                        _add(found, received)
            assert process.returncode == 0
        finally:
            process.kill()
    return found, joined


def _by_topic(facts: Facts, first: int, last: int) -> dict[str, list[tuple[int, str, bytes]]]:
    """List the facts of a range by topic, in the order of their delivery."""
    found: dict[str, list[tuple[int, str, bytes]]] = {}
    for (topic, height, name), fact in facts.items():
        if first <= height <= last:
            found.setdefault(topic, []).append((height, name, fact))
    return found


def test_as_fast_as_its_reader_takes_it(recorded: Recorded) -> None:
    archive, live, first, last = recorded
    assert last - first > 3 * _SPAN
    found, joined = _replayed(archive, last, "--speed", "max")
    assert joined <= first
    assert _by_topic(found, first, last) == _by_topic(live, first, last) != {}


def test_at_the_speed_of_its_blocks(recorded: Recorded) -> None:
    archive, live, earliest, last = recorded
    assert earliest < last - _PLAYED
    found, joined = _replayed(archive, last, "--speed", "1", "--from", str(last - _PLAYED))
    # The first blocks go out before the reader joins, two or three since the last report of the head.
    first = joined + 4
    assert last - _PLAYED <= first < last - _SPAN
    assert _by_topic(found, first, last) == _by_topic(live, first, last)
