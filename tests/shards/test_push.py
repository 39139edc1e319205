"""The pusher over real sockets: order, refusal, overflow, and a restarted aggregator."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from shards.protocol import frames
from shards.protocol.frames import BatchHeader, Record
from shards.protocol.settings import Limits
from shards.push import Pusher

WAIT_MS = 5_000
FIRST_EPOCH, SECOND_EPOCH = 1_000, 2_000


def record(number: int, size: int = 10) -> Record:
    return Record("book.A.", frames.KIND_BOOK, 0, 100 + number, number, 1, 0, 0, b"x" * size)


def numbers(records: list[Record]) -> list[int]:
    return [record.sequence for record in records]


class Bench:
    """One pusher, and PULL sockets that come and go at its endpoint."""

    def __init__(self, directory: Path) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.endpoint = f"ipc://{directory}/push"
        self.dropped: list[Record] = []
        self.pusher: Pusher
        self.pull: zmq.Socket[bytes]

    def start(self, **limits: float) -> Pusher:
        self.pusher = Pusher(
            self.context,
            self.endpoint,
            shard=3,
            epoch=77,
            limits=Limits(**limits),  # type: ignore[arg-type]
            on_drop=self.dropped.extend,
        )
        return self.pusher

    def listen(self, hwm: int = 1_000) -> None:
        self.pull = self.context.socket(zmq.PULL)
        self.pull.setsockopt(zmq.RCVHWM, hwm)
        self.pull.setsockopt(zmq.LINGER, 0)
        self.pull.bind(self.endpoint)

    def flush_until_taken(self) -> None:
        """Send until nothing waits: the connection may take a moment."""
        poller = zmq.Poller()
        poller.register(self.pusher._socket, zmq.POLLOUT)
        while self.pusher.stuck:
            assert poller.poll(WAIT_MS), "nobody takes the frames"
            self.pusher.flush()

    def receive(self) -> tuple[BatchHeader, list[Record]]:
        assert self.pull.poll(WAIT_MS), "nothing came"
        header, payload = self.pull.recv_multipart()
        return frames.decode_header(header), frames.decode_records(payload)

    def receive_until(self, last: int) -> list[tuple[BatchHeader, list[Record]]]:
        batches: list[tuple[BatchHeader, list[Record]]] = []
        while not batches or numbers(batches[-1][1])[-1] != last:
            batches.append(self.receive())
        return batches


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.pusher.close()
    bench.context.destroy(linger=0)


def flat(batches: list[tuple[BatchHeader, list[Record]]]) -> list[int]:
    return [n for _, records in batches for n in numbers(records)]


def test_frames_arrive_in_order_and_are_numbered_from_one(bench: Bench) -> None:
    bench.listen()
    pusher = bench.start(batch_frames=4)
    assert pusher.link(FIRST_EPOCH)
    for start in range(0, 40, 10):
        pusher.push([record(start + n) for n in range(10)])
    bench.flush_until_taken()
    batches = bench.receive_until(39)
    assert flat(batches) == list(range(40))
    assert [len(records) for _, records in batches] == [4, 4, 2] * 4
    due = 1
    for header, records in batches:
        assert (header.version, header.shard, header.epoch) == (1, 3, 77)
        assert (header.publisher_epoch, header.frame_sequence) == (FIRST_EPOCH, due)
        assert header.ts_push > 0
        assert not header.resent
        due += len(records)
    assert (pusher.frames, pusher.kept, pusher.dropped) == (40, 40, 0)


def test_nothing_leaves_before_the_aggregator_is_known(bench: Bench) -> None:
    bench.listen()
    pusher = bench.start()
    pusher.push([record(1)])
    assert pusher.stuck
    assert pusher.backlog_bytes > 0
    pusher.link(FIRST_EPOCH)
    bench.flush_until_taken()
    header, records = bench.receive()
    assert numbers(records) == [1]
    assert header.resent, "it waited, so its latency says nothing"


def test_what_zeromq_refuses_waits_and_goes_later_in_order(bench: Bench) -> None:
    bench.listen(hwm=2)
    pusher = bench.start(push_hwm=2)
    pusher.link(FIRST_EPOCH)
    pusher.push([record(0)])
    bench.flush_until_taken()
    for n in range(1, 3_000):
        pusher.push([record(n, size=2_000)])
    assert pusher.stuck
    assert pusher.backlog_bytes > 0
    assert bench.dropped == []
    got: list[int] = []
    while pusher.backlog_bytes:
        if bench.pull.poll(1):
            got += numbers(bench.receive()[1])
        pusher.flush()
    got += flat(bench.receive_until(2_999))
    assert got == list(range(3_000))
    assert pusher.backlog_bytes == 0


def test_overflow_drops_all_that_waits_and_reports_every_frame(bench: Bench) -> None:
    pusher = bench.start(backlog_bytes=5_000)
    pusher.link(FIRST_EPOCH)
    sent = 0
    while not bench.dropped:
        pusher.push([record(sent), record(sent + 1)])
        sent += 2
    assert numbers(bench.dropped) == list(range(sent))
    assert not pusher.stuck
    assert (pusher.dropped, pusher.backlog_bytes, pusher.kept) == (sent, 0, 0)
    bench.listen()
    pusher.push([record(sent)])
    bench.flush_until_taken()
    header, records = bench.receive()
    assert numbers(records) == [sent]
    assert header.frame_sequence == sent + 1, "the hole shows in the numbers"


def test_what_was_delivered_is_a_prefix_of_what_was_made(bench: Bench) -> None:
    bench.listen(hwm=1)
    pusher = bench.start(push_hwm=1, backlog_bytes=100_000)
    pusher.link(FIRST_EPOCH)
    pusher.push([record(0)])
    bench.flush_until_taken()
    pushed = 1
    while not bench.dropped:
        pusher.push([record(pushed, size=1_000)])
        pushed += 1
    first_dropped = bench.dropped[0].sequence
    assert numbers(bench.dropped) == list(range(first_dropped, pushed))
    assert flat(bench.receive_until(first_dropped - 1)) == list(range(first_dropped))
    assert not bench.pull.poll(0)


def test_a_new_aggregator_gets_all_that_is_kept_again_then_what_follows(bench: Bench) -> None:
    bench.listen()
    pusher = bench.start()
    pusher.link(FIRST_EPOCH)
    pusher.push([record(0), record(1)])
    pusher.push([record(2)])
    bench.flush_until_taken()
    assert flat(bench.receive_until(2)) == [0, 1, 2]
    assert not pusher.link(FIRST_EPOCH), "the same aggregator as before"
    assert pusher.link(SECOND_EPOCH)
    pusher.push([record(3)])
    bench.flush_until_taken()
    batches = bench.receive_until(3)
    assert flat(batches) == [0, 1, 2, 3]
    assert [h.frame_sequence for h, _ in batches] == [1, 3, 4]
    assert [h.resent for h, _ in batches] == [True, True, False]
    assert {h.publisher_epoch for h, _ in batches} == {SECOND_EPOCH}


def test_what_is_kept_is_bounded_in_bytes(bench: Bench) -> None:
    bench.listen()
    pusher = bench.start(backlog_bytes=3_000)
    pusher.link(FIRST_EPOCH)
    for n in range(10):
        pusher.push([record(n, size=500)])
        bench.flush_until_taken()
    assert 3 <= pusher.kept <= 6
    assert bench.dropped == []
    assert flat(bench.receive_until(9)) == list(range(10))
    pusher.link(SECOND_EPOCH)
    bench.flush_until_taken()
    assert flat(bench.receive_until(9)) == list(range(10 - pusher.kept, 10))


def test_what_is_kept_is_bounded_in_age(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("shards.push.time.monotonic", lambda: now)
    bench.listen()
    pusher = bench.start(backlog_s=60)
    pusher.link(FIRST_EPOCH)
    pusher.push([record(0)])
    bench.flush_until_taken()
    now += 59
    pusher.push([record(1)])
    bench.flush_until_taken()
    assert pusher.kept == 2
    now += 2
    pusher.flush()
    assert pusher.kept == 1


def test_what_waits_is_never_too_old(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("shards.push.time.monotonic", lambda: now)
    pusher = bench.start(backlog_s=60)
    pusher.push([record(0)])
    now += 10_000
    pusher.flush()
    assert pusher.kept == 1
    bench.listen()
    pusher.link(FIRST_EPOCH)
    bench.flush_until_taken()
    assert numbers(bench.receive()[1]) == [0]
