"""The subscriber over real sockets, against a publisher that follows a script."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import uvloop

from collector import Book, Gap, Joined, Lost, Received, Subscriber, Trades, Unanswered
from collector.aggregator.replay_buffer import ReplayBuffer
from collector.client.whole_book import load_or_apply
from collector.settings.parts import DEFAULT_PUBLISH, requests_endpoint
from shards.protocol.order_book import OrderBook
from tests.collector.client.scripted_publisher import (
    Script,
    ScriptedPublisher,
    delta,
    free_endpoint,
    gap,
    publishing,
    snapshot,
    trades,
)
from tests.proxy import FaultProxy
from tests.system.running import eventually

INJ = "INJ-USDT"


def opened(publisher: ScriptedPublisher, sequence: int = 1) -> None:
    """Publish a first whole book."""
    book = OrderBook(INJ)
    book.load(sequence, [("1.000000000000000000", "2.000000000000000000")], [])
    publisher.send(INJ, snapshot(INJ, 100, book))
    publisher.script.head = 100


def until(
    subscriber: Subscriber, done: Callable[[Received], bool], deadline_s: float = 60.0
) -> list[Received]:
    """Everything up to the first event that is what the test waits for."""
    out: list[Received] = []
    end = time.monotonic() + deadline_s
    while not out or not done(out[-1]):
        received = subscriber.poll(end - time.monotonic())
        assert received is not None, f"not in time, after {out}"
        out.append(received)
    return out


def is_a(kind: type) -> Callable[[Received], bool]:
    return lambda received: isinstance(received.event, kind)


def has_subscribed(publisher: ScriptedPublisher, prefix: bytes) -> bool:
    return b"\x01" + prefix in publisher.subscriptions


def test_a_late_joiner_gets_the_book_then_what_follows() -> None:
    with publishing() as publisher:
        opened(publisher)
        publisher.send(INJ, delta(INJ, 101, 2))
        with Subscriber(publisher.endpoint, markets=[INJ], keep_books=True) as subscriber:
            until(subscriber, lambda r: isinstance(r.event, Book) and r.event.sequence == 2)
            publisher.send(INJ, gap(INJ, 1, 102))
            publisher.send(INJ, delta(INJ, 102, 3))
            publisher.send(INJ, trades(INJ, 102))
            out = until(subscriber, is_a(Trades))
            book = subscriber.book("INJ/USDT")
    assert [type(r.event) for r in out] == [Gap, Book, Trades]
    assert book is not None
    assert book.sequence == 3
    last = out[-1]
    assert (last.topic, last.channel, last.symbol) == ("trades.INJ-USDT.", "trades", INJ)
    assert (last.shard, last.epoch, last.frame_sequence, last.topic_sequence) == (3, 9, 5, 1)
    assert last.ts_push < last.ts_pub < last.ts_sub
    hop = subscriber.latency
    assert 1 <= hop.number <= 5
    assert 0 < hop.maximum < last.ts_sub - last.ts_push + 60 * 10**9


def test_a_dropped_frame_is_fetched_again() -> None:
    with publishing() as publisher:
        opened(publisher)
        with Subscriber(publisher.endpoint, markets=["INJ*"], channels=["book"]) as subscriber:
            until(subscriber, is_a(Book))
            publisher.drop(INJ, delta(INJ, 101, 2))
            publisher.send(INJ, delta(INJ, 102, 3))
            out = until(subscriber, lambda r: isinstance(r.event, Book) and r.event.sequence == 3)
            assert [r.event.sequence for r in out if isinstance(r.event, Book)] == [2, 3]
            publisher.drop(INJ, delta(INJ, 103, 4))
            (tail,) = until(subscriber, is_a(Book))
    assert tail.healed


def test_a_slow_subscriber_loses_nothing_that_the_history_has() -> None:
    """A high-water mark of a few frames, and no reading while hundreds are published."""
    with publishing() as publisher:
        opened(publisher)
        with Subscriber(publisher.endpoint, markets=[INJ], channels=["book"], hwm=5) as subscriber:
            until(subscriber, is_a(Book))
            for sequence in range(2, 252):
                publisher.send(INJ, delta(INJ, 100 + sequence, sequence))
            out = until(subscriber, lambda r: isinstance(r.event, Book) and r.event.sequence == 251)
    assert [r.event.sequence for r in out if isinstance(r.event, Book)] == list(range(2, 252))


def test_answers_that_take_longer_than_a_second_are_waited_for() -> None:
    """On a slow line: what is asked for again meanwhile would come before all that is missing."""
    symbols = [f"M{n}-USDT" for n in range(2)]
    levels = [(f"{price}.000000000000000000", "2.000000000000000000") for price in range(1, 2_001)]
    with publishing() as publisher:
        for symbol in symbols:
            book = OrderBook(symbol)
            book.load(1, levels, [])
            publisher.send(symbol, snapshot(symbol, 100, book))
        port = int(publisher.endpoint.rsplit(":", 1)[1])
        with FaultProxy("127.0.0.1", port + 1) as line:
            line.throttle(50_000)
            at = f"tcp://127.0.0.1:{line.port}"
            with Subscriber(publisher.endpoint, requests=at, channels=["book"]) as subscriber:
                out = until(subscriber, is_a(Book)) + until(subscriber, is_a(Book))
        replays = [asked["topic"] for asked in publisher.asked if asked["ask"] == "replay"]
    assert {r.symbol for r in out if isinstance(r.event, Book)} == set(symbols)
    assert sorted(replays) == [f"book.{symbol}." for symbol in symbols]


def test_a_restarted_publisher_is_followed_without_repeats() -> None:
    endpoint = free_endpoint()
    with publishing(Script(1), endpoint) as publisher, Subscriber(endpoint) as subscriber:
        opened(publisher)
        publisher.send(INJ, delta(INJ, 101, 2))
        publisher.send(INJ, trades(INJ, 101))
        until(subscriber, lambda r: isinstance(r.event, Book) and r.event.sequence == 2)
        publisher.close()
        with publishing(Script(2), endpoint) as restarted:
            restarted.script.history.begin("trades.INJ-USDT.", 99)
            opened(restarted)
            restarted.send(INJ, delta(INJ, 101, 2))
            restarted.send(INJ, trades(INJ, 101))
            restarted.send(INJ, delta(INJ, 102, 3))
            restarted.send(INJ, trades(INJ, 102))
            seen = [type(r.event) for r in until(subscriber, is_a(Trades))]
            while Book not in seen or Joined not in seen:
                seen += [type(r.event) for r in until(subscriber, lambda _: True)]
    assert [seen.count(kind) for kind in (Joined, Lost)] == [1, 0]
    assert seen.count(Book) == 1


def test_a_silent_aggregator_is_reported() -> None:
    with Subscriber(free_endpoint(), silent_s=0.2) as subscriber:
        (received,) = until(subscriber, is_a(Unanswered))
    assert received.topic == ""


async def collect(subscriber: Subscriber, sequence: int) -> list[int]:
    got: list[int] = []
    async for received in subscriber:
        if isinstance(received.event, Book):
            got.append(received.event.sequence)
        if got and got[-1] == sequence:
            return got
    raise AssertionError("ended early")


async def read_in_a_loop(endpoint: str, publisher: ScriptedPublisher) -> tuple[list[int], int]:
    """Read while another task, like anybody's, wants its turns."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    with Subscriber(endpoint, markets=[INJ], channels=["book"]) as subscriber:
        neighbour = asyncio.create_task(others())
        await collect(subscriber, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(subscriber), 0.05)
        publishing_all = asyncio.to_thread(send_many, publisher)
        _, got = await asyncio.wait_for(
            asyncio.gather(publishing_all, collect(subscriber, 600)), 60
        )
        neighbour.cancel()
    return got, turns


def send_many(publisher: ScriptedPublisher) -> None:
    for sequence in range(2, 601):
        if sequence % 97:
            publisher.send(INJ, delta(INJ, 100 + sequence, sequence))
        else:
            publisher.drop(INJ, delta(INJ, 100 + sequence, sequence))


@pytest.mark.parametrize("runner", [asyncio.Runner, uvloop.run], ids=["asyncio", "uvloop"])
def test_the_async_iterator_misses_no_wake_up(runner: Any) -> None:
    with publishing(Script(history=ReplayBuffer(1_000))) as publisher:
        opened(publisher)
        reading = read_in_a_loop(publisher.endpoint, publisher)
        if runner is uvloop.run:
            got, turns = uvloop.run(reading)
        else:
            with asyncio.Runner() as loop:
                got, turns = loop.run(reading)
    assert got == list(range(2, 601))
    assert turns > 3


def test_an_idle_async_subscriber_does_not_spin() -> None:
    """Arrived events are not taken: the loop must not be woken again and again."""

    async def idle(publisher: ScriptedPublisher) -> float:
        with Subscriber(publisher.endpoint, markets=[INJ], channels=["book"]) as subscriber:
            await collect(subscriber, 1)
            publisher.send(INJ, delta(INJ, 101, 2))
            before = time.process_time()
            await asyncio.sleep(0.3)
            return time.process_time() - before

    with publishing() as publisher:
        opened(publisher)
        assert asyncio.run(idle(publisher)) < 0.15


def test_globs_subscribe_only_to_what_matches() -> None:
    with publishing() as publisher:
        opened(publisher)
        for symbol in ("BTC-USDT-PERP", "ETH-USDT-PERP", "ETH-USDT"):
            publisher.send(symbol, trades(symbol, 100))
        with Subscriber(publisher.endpoint, markets=["*-PERP"], channels=["trades"]) as subscriber:
            joined = until(subscriber, is_a(Joined))[-1].event
            assert isinstance(joined, Joined)
            assert joined.topics == 2
            for symbol in ("ETH-USDT", "ETH-USDT-PERP"):
                publisher.send(symbol, trades(symbol, 101))
            assert until(subscriber, is_a(Trades))[-1].symbol == "ETH-USDT-PERP"
        assert not has_subscribed(publisher, b"trades.ETH-USDT.")
        assert not has_subscribed(publisher, b"trades.")


def test_a_book_is_withdrawn_from_a_loss_to_the_next_snapshot() -> None:
    with publishing(Script(history=ReplayBuffer(2))) as publisher:
        opened(publisher)
        with Subscriber(
            publisher.endpoint, markets=[INJ], channels=["book"], keep_books=True
        ) as subscriber:
            until(subscriber, is_a(Book))
            assert subscriber.book(INJ) is not None
            for sequence in (2, 3, 4):
                publisher.drop(INJ, delta(INJ, 100 + sequence, sequence))
            publisher.send(INJ, delta(INJ, 105, 5))
            (lost,) = until(subscriber, is_a(Lost))
            assert subscriber.book(INJ) is None
            whole = OrderBook(INJ)
            load_or_apply(whole, delta(INJ, 105, 1))
            whole.sequence = 5
            publisher.script.keyframe(INJ, snapshot(INJ, 105, whole))
            until(subscriber, lambda r: isinstance(r.event, Book) and r.event.is_snapshot)
            book = subscriber.book(INJ)
    assert isinstance(lost.event, Lost)
    assert (lost.event.first, lost.event.last) == (2, 3)
    assert book is not None
    assert book.sequence == 5


def test_status_and_markets_are_asked_for_with_a_deadline() -> None:
    markets = [{"market_id": "0x1", "ticker": "INJ/USDT", "symbol": INJ}]
    with publishing(Script(markets=markets)) as publisher:
        subscriber = Subscriber(publisher.endpoint)
        assert subscriber.markets() == markets
        assert subscriber.status() == {"coverage": {"now": 1.0}}
        publisher.script.silent = True
        port = int(publisher.endpoint.rpartition(":")[2])
        typed = f"answered at {publisher.endpoint} \\(requests go to port {port + 1}\\) within"
        with pytest.raises(TimeoutError, match=typed):
            subscriber.status(0.1)
        apart = Subscriber("tcp://127.0.0.1:9", requests=subscriber.requests)
        with pytest.raises(TimeoutError, match=f"answered at {subscriber.requests} within"):
            apart.status(0.1)


def test_a_foreign_message_of_another_shape_does_not_shift_the_parts() -> None:
    with publishing() as publisher:
        opened(publisher)
        with Subscriber(publisher.endpoint, markets=[INJ], channels=["trades"]) as subscriber:
            until(subscriber, is_a(Joined))
            publisher.send(INJ, trades(INJ, 101))
            until(subscriber, is_a(Trades))
            publisher.send_parts(b"trades.INJ-USDT.")
            publisher.send_parts(b"trades.INJ-USDT.", b"x", b"y")
            publisher.send(INJ, trades(INJ, 102))
            publisher.send(INJ, trades(INJ, 103))
            out = [r.event for _ in range(2) for r in until(subscriber, is_a(Trades))]
    assert [event.height for event in out if isinstance(event, Trades)] == [102, 103]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"channels": ["books"]}, "unknown channel 'books'"),
        ({"markets": []}, "nothing to subscribe to"),
        ({"markets": ["0x" + "ab" * 32]}, "is a market id"),
        ({"connect": "udp://x"}, "neither tcp"),
        ({"connect": "tcp://127.0.0.1:65535"}, "65534"),
    ],
)
def test_what_cannot_be_subscribed_is_said_at_once(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Subscriber(**options)


def test_the_requests_endpoint_follows_from_the_publish_endpoint() -> None:
    assert requests_endpoint(DEFAULT_PUBLISH) == "tcp://127.0.0.1:5591"
    assert requests_endpoint("ipc:///run/c.sock") == "ipc:///run/c.sock.requests"


def test_books_are_kept_only_if_asked_for() -> None:
    with pytest.raises(ValueError, match="keep_books=True"):
        Subscriber().book(INJ)


def test_importing_the_package_loads_no_zeromq() -> None:
    code = "import collector, sys; assert not {'zmq', 'msgspec'} & set(sys.modules); collector.Subscriber"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=90)


def test_a_subscriber_that_was_never_entered_says_so() -> None:
    subscriber = Subscriber(free_endpoint())
    with pytest.raises(RuntimeError, match="iterate inside `with Subscriber"):
        next(iter(subscriber))
    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(anext(subscriber))
    with subscriber:
        pass
    assert list(subscriber) == [], "one that was closed ends"


def test_async_with_opens_and_closes() -> None:
    async def first(publisher: ScriptedPublisher) -> Joined:
        async with Subscriber(publisher.endpoint, markets=["inj-usdt", "NOSUCH"]) as subscriber:
            async for received in subscriber:
                if isinstance(received.event, Joined):
                    return received.event
        raise AssertionError

    with publishing(Script(head=100)) as publisher:
        opened(publisher)
        joined = asyncio.run(first(publisher))
    assert (joined.topics, joined.unmatched) == (1, ("NOSUCH",))


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def others_hear(publisher: ScriptedPublisher) -> bool:
    """Close a subscriber that another task reads; return whether connections opened then hear."""
    loop = asyncio.get_running_loop()
    heard: list[bytes] = []

    async def read(subscriber: Subscriber) -> None:
        async for _ in subscriber:
            pass

    def hear(end: socket.socket) -> None:
        heard.append(end.recv(9))

    def seen() -> bool:
        return subscriber.is_joined and has_subscribed(publisher, b"trades.")

    subscriber = Subscriber(publisher.endpoint, channels="trades").__enter__()
    reading = asyncio.create_task(read(subscriber))
    await asyncio.to_thread(eventually, seen, within_s=30)
    before = set(filter(is_open, range(1_000)))
    subscriber.close()
    with ExitStack() as stack:
        used: set[int] = set()
        # A descriptor that libzmq closes now is given to whoever opens the next one.
        while not used & before:
            for end in (pair := socket.socketpair()):
                stack.enter_context(end)
                loop.add_reader(end.fileno(), hear, end)
                stack.callback(loop.remove_reader, end.fileno())
                used.add(end.fileno())
            for end in pair:
                end.send(b"heard")
        await reading
        await asyncio.to_thread(eventually, lambda: len(heard) == len(used), within_s=30)
    return True


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_closing_a_subscriber_that_is_read_makes_no_other_connection_deaf(runner: Any) -> None:
    with publishing() as publisher:
        assert runner(others_hear(publisher))
