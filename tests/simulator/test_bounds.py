"""Each bound of docs/security.md on real sockets: what happens at it, and how it is counted."""

import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import psutil
import pytest
import zmq

from collector.access.subscriptions import MAX_SUBSCRIPTION
from collector.aggregator.endpoints import MAX_REQUEST
from collector.client.requests import Refused, RequestClient
from collector.client.subscriber import Subscriber
from shards.protocol import frames
from tests.simulator import intruders
from tests.simulator.bounded import Bounded, bounded_collector, ends
from tests.system.running import eventually


@pytest.fixture(scope="module", params=[True, False], ids=["keys", "plain"])
def bounded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bounded]:
    folder = tmp_path_factory.mktemp("bounds")
    with bounded_collector(folder, has_keys=request.param) as made:
        yield made


def hang_up(held: list[socket.socket]) -> int:
    """Count the connections that the other side has ended."""
    ended = 0
    for one in held:
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            try:
                while data := one.recv(65_536):
                    assert len(data) < 1_024
            except ConnectionResetError:
                pass
            ended += 1
    return ended


def test_a_handshake_that_does_not_end_is_ended(bounded: Bounded) -> None:
    """Half-open, and half a greeting: closed after `handshake_s`."""
    host, _, port = bounded.frames.removeprefix("tcp://").rpartition(":")
    with contextlib.ExitStack() as stack, bounded.counting("refused_connections", "unfinished", 10):
        held = [
            stack.enter_context(socket.create_connection((host, int(port)), 5)) for _ in range(10)
        ]
        for index, one in enumerate(held):
            one.sendall(intruders.greeting(b"CURVE")[: 6 * index])
        eventually(lambda: hang_up(held) == 10, within_s=30.0)


def test_silence_behind_a_handshake_is_ended(bounded: Bounded) -> None:
    if bounded.server is None:
        pytest.skip("nobody is asked for a key")
    silent = bounded.reader()
    assert silent is not None
    name = silent.name
    before = bounded.count("closed_connections", "silent")
    with (
        bounded.socket(zmq.DEALER, bounded.requests, silent),
        bounded.socket(zmq.SUB, bounded.frames, silent),
    ):

        def ended() -> int:
            return bounded.count("closed_connections", "silent") - before

        eventually(lambda: ended() == 2, within_s=30.0, every_s=0.2, what=lambda: f"{ended()} of 2")
        eventually(lambda: name not in bounded.running.status()["access"]["by_key"], within_s=30.0)


def test_connections_in_all(bounded: Bounded) -> None:
    """With keys who has said nothing makes room; without, the newcomer is refused until some leave."""
    host, _, port = bounded.frames.removeprefix("tcp://").rpartition(":")
    honest = bounded.reader()
    log_before = len(bounded.running.log)

    def logged(text: str) -> bool:
        return text in bounded.running.log[log_before:]

    with bounded.socket(zmq.SUB, bounded.frames, honest) as reader:
        reader.subscribe(b"")
        assert reader.poll(30_000)
        with (
            contextlib.ExitStack() as stack,
            bounded.counting("refused_connections", "connections", 20),
        ):
            held = [
                stack.enter_context(socket.create_connection((host, int(port)), 5))
                for _ in range(60)
            ]
            assert all(one.fileno() >= 0 for one in held)
            if honest is not None:
                # A flood does not shut out other readers.
                with bounded.socket(zmq.SUB, bounded.frames, bounded.reader()) as late:
                    late.subscribe(b"")
                    assert late.poll(30_000)
        eventually(
            lambda: logged("all 40 connections for frames are in use: no more subscribers may"),
            within_s=30.0, what=lambda: bounded.running.log,
        )  # fmt: skip
        trying = {"RECONNECT_IVL": 100}
        with bounded.socket(zmq.SUB, bounded.frames, bounded.reader(), **trying) as late:
            late.subscribe(b"")
            assert late.poll(30_000)
        eventually(
            lambda: logged("there is room for subscribers again"),
            within_s=30.0, what=lambda: bounded.running.log,
        )  # fmt: skip
        last: dict[bytes, int] = {}
        while reader.poll(0):
            topic, body = reader.recv_multipart()
            number = frames.decode(body)[0].topic_sequence
            assert number == last.get(topic, number - 1) + 1
            last[topic] = number
        assert last


def test_replays_of_a_key(bounded: Bounded) -> None:
    """Refused in a sentence, to that key alone; a Subscriber asks again, and misses nothing."""
    greedy, modest = bounded.reader(), bounded.reader()
    topic = frames.topic("book", "INJ-USDT")
    fields: dict[str, Any] = {"topic": topic, "publisher_epoch": 0, "after": 0}
    with (
        bounded.counting("refused_requests", "replays"),
        RequestClient(bounded.requests, greedy) as client,
        RequestClient(bounded.requests, modest) as other,
    ):

        def ask_and_ask() -> None:
            for _ in range(200):
                client.ask("replay", within_s=30.0, **fields)

        with pytest.raises(Refused, match="too many replays at once: ask again in a second"):
            ask_and_ask()
        assert other.ask("replay", within_s=30.0, **fields)["topic"] == topic
    # 120 topics, 30 replays at once, 5 a second.
    joining = bounded.reader()
    with Subscriber(bounded.frames, channels=["book", "trades", "ticker"], keys=joining) as reader:
        last: dict[str, int] = {}
        healed = 0
        deadline = time.monotonic() + 40.0
        while len(last) < 40 or healed < 40:
            assert time.monotonic() < deadline, (len(last), healed)
            received = reader.poll(1.0)
            if received is None or not received.channel or not received.topic_sequence:
                continue
            healed += received.healed
            if received.topic in last and received.topic_sequence > last[received.topic]:
                assert received.topic_sequence == last[received.topic] + 1
            last[received.topic] = received.topic_sequence


def test_a_reader_that_reads_no_frames(bounded: Bounded) -> None:
    """Cut off when more than `queued_bytes` may wait for it; the one beside it misses nothing."""
    if bounded.server is None:
        pytest.skip("the same with keys, and half a minute")
    small = {"RCVHWM": 1, "RCVBUF": 4_096}
    with (
        bounded.socket(zmq.SUB, bounded.frames, bounded.reader()) as reader,
        bounded.socket(zmq.SUB, bounded.frames, bounded.reader(), **small) as stuck,
        bounded.counting("closed_connections", "slow"),
    ):
        reader.subscribe(b"")
        stuck.subscribe(b"")
        last: dict[bytes, int] = {}
        before = bounded.running.status()["access"]["closed"].get("slow", 0)
        deadline = time.monotonic() + 60.0
        next_look = 0.0
        while time.monotonic() < deadline:
            if reader.poll(100):
                topic, body = reader.recv_multipart()
                number = frames.decode(body)[0].topic_sequence
                assert number == last.get(topic, number - 1) + 1
                last[topic] = number
            if time.monotonic() > next_look:
                next_look = time.monotonic() + 0.5
                if bounded.running.status()["access"]["closed"].get("slow", 0) > before:
                    break
        else:
            raise AssertionError("it was never cut off")


def test_a_reader_that_reads_no_replies(bounded: Bounded) -> None:
    small = {"RCVHWM": 1, "RCVBUF": 4_096, "SNDHWM": 100_000}
    asked = msgspec.msgpack.encode({"ask": "topics", "id": 1, "prefixes": [""]})
    # Counted while it is still connected: what it does itself is not what ends it.
    with (
        bounded.socket(zmq.DEALER, bounded.requests, bounded.reader(), **small) as deaf,
        bounded.counting("closed_connections", "slow"),
    ):
        for _ in range(5_000):
            deaf.send(asked)


@pytest.mark.parametrize("size", [MAX_REQUEST + 1, 3 * MAX_REQUEST])
def test_a_request_that_is_too_long(bounded: Bounded, size: int) -> None:
    """Cut off; what is longer than twice as much, libzmq cuts off at its first bytes."""
    keys = bounded.reader()
    counted = bounded.counting("closed_connections", "size", int(size < 2 * MAX_REQUEST))
    with counted, bounded.socket(zmq.DEALER, bounded.requests, keys) as one, ends(one):
        one.send(bytes(size))


def test_a_subscription_that_is_too_long(bounded: Bounded) -> None:
    size = MAX_SUBSCRIPTION + 1
    keys = bounded.reader()
    # Without keys libzmq acts on it by itself, up to twice as much.
    reason = (
        contextlib.nullcontext() if keys is None else bounded.counting("closed_connections", "size")
    )
    size = size if keys is not None else 2 * MAX_SUBSCRIPTION + 1
    with reason, bounded.socket(zmq.XSUB, bounded.frames, keys) as one, ends(one):
        one.send(b"\x01" + bytes(size))


@pytest.mark.parametrize("kind", ["DEALER", "SUB"])
def test_a_message_that_never_ends(bounded: Bounded, kind: str) -> None:
    """libzmq bounds a part, not how many there are: memory would grow for as long as they come."""
    if bounded.server is not None:
        pytest.skip("its handshake is not made by hand here")
    endpoint = bounded.requests if kind == "DEALER" else bounded.frames
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    aggregator = psutil.Process(bounded.running.pid("aggregator"))
    before = aggregator.memory_info().rss
    name = b"\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind.encode()
    part = b"\x03" + struct.pack(">Q", 60_000) + bytes(60_000)
    sent = 0
    with (
        bounded.counting("closed_connections", "size"),
        socket.create_connection((host, int(port)), 5) as one,
    ):
        one.sendall(intruders.greeting(b"NULL") + intruders.command(b"READY", name))
        while b"READY" not in one.recv(1_024):
            pass
        deadline = time.monotonic() + 20.0
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                one.sendall(part)
                sent += len(part)
                # 50 MB/s are enough.
                time.sleep(0.001)
        assert time.monotonic() < deadline
    assert 1 << 20 < sent < 200 << 20
    assert aggregator.memory_info().rss - before < 128 << 20


def test_subscriptions_of_a_connection(bounded: Bounded) -> None:
    if bounded.server is None:
        pytest.skip("libzmq acts on them by itself; the rate is bounded, and what a part holds")
    with (
        bounded.counting("closed_connections", "subscriptions"),
        bounded.socket(zmq.XSUB, bounded.frames, bounded.reader(), SNDHWM=0) as one,
        ends(one),
    ):
        for number in range(20_000):
            one.send(b"\x01book.%d." % number)


def test_a_flood_of_changes(bounded: Bounded) -> None:
    """Even if half of them are void: it costs the publisher's loop time all the same."""
    with (
        bounded.counting("closed_connections", "subscriptions"),
        bounded.socket(zmq.XSUB, bounded.frames, bounded.reader(), SNDHWM=0) as one,
        ends(one),
        bounded.socket(zmq.SUB, bounded.frames, bounded.reader()) as reader,
    ):
        reader.subscribe(b"")
        assert reader.poll(30_000)
        for number in range(60_000):
            # Without keys libzmq keeps to itself what changes nothing.
            kind = 0 if number % 2 and bounded.server is not None else 1
            one.send(b"%cx%d" % (kind, number))
        while reader.poll(0):
            reader.recv_multipart()
        assert reader.poll(30_000)


def test_requests_take_a_share_of_the_time(bounded: Bounded) -> None:
    """A key that asks and asks is refused, and in the end cut off; others are answered."""
    if bounded.server is None:
        pytest.skip("who asks is known by its key")
    keen, other = bounded.reader(), bounded.reader()
    asked = msgspec.msgpack.encode({"ask": "topics", "id": 1, "prefixes": ["x"] * 200_000})
    refused = 0
    with (
        bounded.counting("refused_requests", "requests", 20),
        bounded.counting("closed_connections", "requests"),
        bounded.socket(zmq.DEALER, bounded.requests, keen, SNDHWM=20) as one,
        ends(one) as has_ended,
    ):
        deadline = time.monotonic() + 120.0
        while not has_ended():
            assert time.monotonic() < deadline, refused
            with contextlib.suppress(zmq.Again):
                for _ in range(20):
                    one.send(asked, zmq.NOBLOCK)
            while one.poll(1):
                refused += b"take too much" in one.recv_multipart()[0]
    assert refused > 20
    with RequestClient(bounded.requests, other) as client:
        assert client.ask("status", within_s=30.0)


def _connected(endpoint: str, source: str) -> socket.socket | None:
    """Open a connection; the kernel repeats after a second what opens one."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    try:
        return socket.create_connection((host, int(port)), 1.5, (source, 0))
    except TimeoutError:
        return None


def _connects(endpoint: str, source: str) -> bool:
    """Whether a connection can be opened; it is closed again."""
    one = _connected(endpoint, source)
    if one is not None:
        one.close()
    return one is not None


def _close(held: Iterable[socket.socket]) -> None:
    for one in held:
        one.close()


def _knock(bounded: Bounded, reason: str, source: Callable[[int], str]) -> None:
    """Connect and connect, until it is refused for a reason; each stays open for a while."""
    with bounded.counting("refused_connections", reason), contextlib.ExitStack() as stack:
        before = bounded.running.status()["access"]["refused"].get(reason, 0)
        held: deque[socket.socket] = deque()
        stack.callback(_close, held)
        for number in range(20_000):
            one = _connected(bounded.frames, source(number))
            if one is not None:
                held.append(one)
            if len(held) > 20:
                held.popleft().close()
            if one is not None and number % 50:
                continue
            if bounded.running.status()["access"]["refused"].get(reason, 0) > before:
                return
        raise AssertionError("nobody was shut out")


def test_attempts_from_one_address(bounded: Bounded) -> None:
    """The kernel refuses it after a thousand failures; all others may connect."""
    if bounded.server is None:
        pytest.skip("nobody is asked for a key")
    source = intruders.host(7)
    _knock(bounded, "address", lambda _: source)
    assert not _connects(bounded.requests, source)
    assert _connects(bounded.frames, intruders.host(8))
    with Subscriber(bounded.frames, keys=bounded.reader()) as reader:
        assert reader.poll(10.0)
    eventually(lambda: _connects(bounded.frames, source), within_s=30.0, every_s=0.5)


def test_attempts_from_everywhere(bounded: Bounded) -> None:
    """Strangers have to wait; who had a key before comes in at once, and others in their turn."""
    if bounded.server is None:
        pytest.skip("nobody is asked for a key")
    known, new = bounded.reader(), bounded.reader()
    with RequestClient(bounded.requests, known) as client:
        client.ask("status", within_s=30.0)
    _knock(bounded, "attempts", lambda number: intruders.host(1_000 + number))
    with RequestClient(bounded.requests, known) as client:
        assert client.ask("status", within_s=30.0)
    elsewhere = bounded.requests.replace("tcp://", f"tcp://{intruders.host(9)}:0;")
    with bounded.socket(zmq.DEALER, elsewhere, new) as one:
        one.send(msgspec.msgpack.encode({"ask": "status", "id": 1}))
        assert one.poll(15_000)
