"""`collector replay`: the facts that were live, on the same wire, to every reader."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.access import authorized_file, key_files
from collector.access.key_files import Keys
from collector.archive.maintenance import compaction, pruning
from collector.archive.replay.replay import Replay, ReplayConfig
from collector.archive.sealing import seal
from collector.archive.storage import layout
from collector.client.received import Received
from collector.client.requests import Refused, RequestClient
from collector.client.subscriber import Subscriber
from collector.settings.parts import AccessConfig, requests_endpoint
from shards.protocol.errors import ConfigError
from shards.protocol.events import Book, Trades
from shards.protocol.frames import KIND_BOOK, KIND_TRADES
from tests.collector.archive import written
from tests.collector.archive.maintenance.test_maintenance import added_to
from tests.collector.archive.written import SYMBOL, change, sealed, trades
from tests.system.running import COLLECTOR, at_best, eventually, free_port_pair

_FIRST, _LAST = 101, 399


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole parts of one market over midnight."""
    path = tmp_path_factory.mktemp("replay") / "archive"
    sealed(path, _FIRST, _LAST)
    return path


class Replayed:
    """A replay in a thread, and where it publishes."""

    def __init__(self, root: Path, **given: Any) -> None:
        self.publish = f"tcp://127.0.0.1:{free_port_pair()}"
        self.stop = threading.Event()
        self.replay = Replay(ReplayConfig(root=root, publish=(self.publish,), **given), self.stop)
        self.thread = threading.Thread(target=self.replay.run)

    def __enter__(self) -> "Replayed":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(90)
        assert not self.thread.is_alive()


def events(
    subscriber: Subscriber, through: int, *, pause_s: float = 0.0, within_s: float = 30.0
) -> Iterator[Received]:
    """Take events until each channel has come to a height; none may be long in coming."""
    reached = dict.fromkeys(("book", "trades"), 0)
    while min(reached.values()) < through:
        received = subscriber.poll(within_s)
        assert received is not None, reached
        if isinstance(received.event, Book | Trades):
            reached[received.channel] = max(reached[received.channel], received.event.height)
            yield received
        time.sleep(pause_s)


def facts(found: list[Received]) -> tuple[list[Any], list[Any]]:
    books = [r.event for r in found if isinstance(r.event, Book) and not r.event.is_snapshot]
    return books, [r.event for r in found if isinstance(r.event, Trades)]


def expected(first: int, last: int) -> tuple[list[Any], list[Any]]:
    heights = range(first, last + 1)
    books = []
    for height in heights:
        event = change(height)
        event.bids.sort(key=lambda level: float(level[0]), reverse=True)
        books.append(event)
    return books, [trades(height) for height in heights]


def test_every_event_is_the_one_that_was_live(root: Path) -> None:
    with Replayed(root, speed=0.0) as one, Subscriber(one.publish, keep_books=True) as subscriber:
        found = list(events(subscriber, _LAST))
        assert facts(found) == expected(_FIRST, _LAST)
        whole = written.whole(_LAST)
        book = subscriber.book(SYMBOL)
        assert book is not None
        assert book.levels() == (list(whole.bids), list(whole.asks))


def test_it_begins_anywhere_with_the_book_as_it_was(root: Path) -> None:
    with (
        Replayed(root, speed=0.0, first=255, last=290) as one,
        Subscriber(one.publish, keep_books=True) as subscriber,
    ):
        found = list(events(subscriber, 290))
        first = found[0].event
        assert isinstance(first, Book)
        assert first.is_snapshot
        whole = written.whole(254)
        assert (first.height, first.bids, first.asks) == (254, whole.bids, whole.asks)
        assert facts(found) == expected(255, 290)


def test_an_instant_begins_and_ends_it_too(root: Path) -> None:
    given = {"since": written.instant(130), "until": written.instant(150)}
    with Replayed(root, speed=0.0, **given) as one, Subscriber(one.publish) as subscriber:
        assert facts(list(events(subscriber, 149))) == expected(130, 149)


def test_a_slow_reader_loses_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.archive.replay.server.HWM", 5)
    with Replayed(root, speed=0.0) as one, Subscriber(one.publish, hwm=5) as subscriber:
        found = list(events(subscriber, _LAST, pause_s=0.003))
    assert facts(found) == expected(_FIRST, _LAST)


def test_two_readers_have_the_same(root: Path) -> None:
    with (
        Replayed(root, speed=0.0) as one,
        Subscriber(one.publish) as quick,
        Subscriber(one.publish) as other,
    ):
        # Both join before anything goes out, as the replay waits for what is asked.
        both: list[list[Received]] = [[], []]

        def take(at: int, subscriber: Subscriber) -> None:
            both[at] = list(events(subscriber, _LAST))

        threads = [threading.Thread(target=take, args=(i, s)) for i, s in enumerate((quick, other))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert facts(both[0]) == facts(both[1]) == expected(_FIRST, _LAST)


def test_the_speed_is_that_of_the_blocks(root: Path) -> None:
    with Replayed(root, speed=10.0, first=200, last=220) as one:
        one.thread.join(90)
        took = one.replay.outcome.seconds
    # Twenty half seconds at ten times the speed.
    assert 1.0 <= took < 8.0
    assert one.replay.outcome.last == 220


def test_the_commands_of_a_live_collector_work_on_it(root: Path) -> None:
    publish = f"tcp://127.0.0.1:{free_port_pair()}"
    collector = [sys.executable, "-m", "collector"]
    replay = subprocess.Popen(
        [*collector, "replay", str(root), "--publish", publish, "--speed", "2"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        run = subprocess.run(
            [*collector, "status", "--connect", publish, "--json"],
            capture_output=True, text=True, check=True, timeout=90,
        )  # fmt: skip
        assert json.loads(run.stdout)["markets"]["live"] == 1
        tail = subprocess.Popen(
            [*collector, "tail", "--connect", publish, "--json"], stdout=subprocess.PIPE, text=True
        )
        assert tail.stdout is not None
        assert all("INJ-USDT" in tail.stdout.readline() for _ in range(10))
        tail.terminate()
        tail.wait(90)
        tail.stdout.close()
    finally:
        replay.terminate()
        _, said = replay.communicate(timeout=90)
    assert replay.returncode == 0, said
    assert "replayed" in said


def let_in(folder: Path, server: Keys, name: str, **fields: Any) -> Keys:
    """Make a key and let it in."""
    keys = key_files.make(name, server=server.public)
    entry = authorized_file.of_public(key_files.public_part(keys), **fields)
    authorized_file.add(folder / authorized_file.FILE, entry)
    return keys


def test_a_replay_with_keys_gives_each_its_own(root: Path, tmp_path: Path) -> None:
    """Bob, who may read trades, gets trades; revoked he is out within a second, alice goes on."""
    tries = itertools.count()
    at_best(lambda: _out_after_s(root, tmp_path / str(next(tries))), below=1.0)


def _out_after_s(root: Path, tmp_path: Path) -> float:
    """Return how long after bob's key is revoked the last frame was published for him."""
    key_files.write(key_files.make("server"), tmp_path)
    server = Keys.read(tmp_path / "server.key")
    alice = let_in(tmp_path, server, "alice")
    bob = let_in(tmp_path, server, "bob", topics=("trades.*",))
    eve = key_files.make("eve", server=server.public)
    file = tmp_path / authorized_file.FILE
    access = AccessConfig(keys=str(tmp_path / "server.key"), authorized=str(file))
    with (
        Replayed(root, speed=20.0, access=access) as replayed,
        Subscriber(replayed.publish, keys=alice) as hers,
        Subscriber(replayed.publish, keys=bob) as his,
        RequestClient(requests_endpoint(replayed.publish), bob) as asking,
        RequestClient(requests_endpoint(replayed.publish), eve) as stranger,
    ):
        with pytest.raises(TimeoutError, match="does not let in the key of eve"):
            stranger.ask("status", within_s=2.0)
        book = {"topic": f"book.{SYMBOL}.", "publisher_epoch": 0, "after": 0}
        with pytest.raises(Refused, match="not among those that this key may read"):
            asking.ask("replay", within_s=30.0, **book)
        got: list[Received] = []
        while len(got) < 10:
            received = his.poll(30.0)
            assert received is not None
            if received.channel:
                got.append(received)
        assert {r.channel for r in got} == {"trades"}
        authorized_file.remove(file, "bob")
        revoked = time.time_ns()
        newest = 0
        numbers: dict[str, list[int]] = {}
        seen = 0
        for received in events(hers, _LAST):
            numbers.setdefault(received.topic, []).append(received.topic_sequence)
            seen += 1
            while (late := his.poll(0.0)) is not None:
                if late.channel:
                    newest = max(newest, late.ts_pub)
        assert seen > 300
        for found in numbers.values():
            assert found == list(range(found[0], found[0] + len(found)))
    return (newest - revoked) / 1e9


def test_facts_that_came_late_are_in_their_place(tmp_path: Path) -> None:
    added_to(tmp_path)
    with Replayed(tmp_path, speed=0.0) as one, Subscriber(one.publish) as subscriber:
        books, fills = facts(list(events(subscriber, 139)))
    assert [book.height for book in books] == list(range(101, 140))
    assert [block.height for block in fills] == list(range(101, 140))


def test_compaction_during_a_replay_is_not_seen(tmp_path: Path) -> None:
    added_to(tmp_path)
    replay = Replay(ReplayConfig(root=tmp_path, publish=("tcp://127.0.0.1:1",)))
    stream = replay._stream()
    found = [next(stream)]
    compaction.compact(tmp_path, ts=written.DAY)
    found += stream
    assert [t.height for t in found if t.record.kind == KIND_TRADES] == list(range(101, 140))


def test_a_part_that_is_pruned_during_a_replay_is_named(tmp_path: Path) -> None:
    sealed(tmp_path, 101, 139)
    replay = Replay(ReplayConfig(root=tmp_path, publish=("tcp://127.0.0.1:1",)))
    stream = replay._stream()
    next(stream)
    pruning.prune(tmp_path, [layout.part_of(120, written.SPAN)], ts=written.DAY)
    with pytest.raises(ConfigError, match="part 120-129 was removed while"):
        list(stream)


def test_days_before_the_start_are_not_read(root: Path) -> None:
    config = ReplayConfig(root=root, publish=("tcp://127.0.0.1:1",), since=written.DAY)
    first = next(Replay(config)._stream())
    # Midnight is in the first block of this part.
    assert first.height == 120


def test_books_of_a_source_without_heights_go_out_between_the_blocks(tmp_path: Path) -> None:
    made = [written.entry("book", written.whole(100))]
    for height in range(101, 130):
        book = msgspec.structs.replace(change(height, "indexer-grpc"), height=0)
        entry = written.entry("book", book)
        made.append(msgspec.structs.replace(entry, height=height))
        if height % 2:
            made.append(written.entry("trades", trades(height, "indexer-grpc")))
    written.write(tmp_path, made, begin=101)
    for first in (100, 110, 120):
        seal.seal(tmp_path, layout.part_of(first, written.SPAN), ts=written.DAY)
    stream = Replay(ReplayConfig(root=tmp_path, publish=("tcp://127.0.0.1:1",)))._stream()
    found = [t for t in stream if t.record.kind in (KIND_BOOK, KIND_TRADES) and not t.record.flags]
    assert [t.record.sequence for t in found if t.event] == list(range(101, 130))
    assert [t.ts for t in found] == sorted(t.ts for t in found)
    assert not any(t.event.height for t in found if t.event)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_replay_that_is_ended_leaves_no_folder(
    root: Path, tmp_path: Path, number: signal.Signals
) -> None:
    # At this speed it would take minutes.
    command = [*COLLECTOR, "replay", str(root), "--speed", "0.01"]
    with subprocess.Popen(
        [*command, "--publish", f"ipc://{tmp_path}/publish"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:
        try:
            eventually((tmp_path / "publish").exists, within_s=30, what="it publishes")
            process.send_signal(number)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert not list(tmp_path.glob("collector-replay-*"))
