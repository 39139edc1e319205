"""
An aggregator that follows a script: `Script` publishes what a test says, `ScriptedPublisher`
puts it behind a real XPUB and a real ROUTER on free loopback ports, in a thread.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import zmq

from collector.aggregator.replay_buffer import ReplayBuffer
from shards.protocol import frames
from shards.protocol.events import ZERO, Book, Gap, Level, Ticker, Trade, Trades
from shards.protocol.order_book import OrderBook
from tests.system.running import free_port_pair

Event = Book | Trades | Gap | Ticker
CHANNELS: dict[type[Event], str] = {
    Book: "book",
    Trades: "trades",
    Gap: "gap",
    Ticker: "ticker",
}


def text(number: int) -> str:
    return f"{number}.{'0' * 18}"


def market_id(symbol: str) -> str:
    return "0x" + symbol.encode().hex().ljust(64, "0")


def delta(symbol: str, height: int, sequence: int, bids: list[Level] | None = None) -> Book:
    """A change that every sequence number makes differently."""
    levels = bids or [(text(1 + sequence % 7), text(sequence) if sequence % 3 else ZERO)]
    ids = (market_id(symbol), height, sequence, height * 10**9, height * 10**9 + 5)
    return Book(*ids, "chain-ws", False, levels, [])


def snapshot(symbol: str, height: int, book: OrderBook) -> Book:
    bids, asks = book.levels()
    ids = (market_id(symbol), height, book.sequence, 0, height * 10**9 + 5)
    return Book(*ids, "chain-ws", True, bids, asks)


def trades(symbol: str, height: int, count: int = 1) -> Trades:
    fills = [
        Trade(
            *(f"{height}_{n}", "buy" if n % 2 else "sell", text(10), text(n + 1), text(0)),
            *("Market", "0xorder", "0xsubaccount", "inj1recipient"),
        )
        for n in range(count)
    ]
    ts = height * 10**9
    return Trades(market_id(symbol), height, ts, ts + 5, "chain-ws", fills)


def ticker(symbol: str, height: int, sequence: int) -> Ticker:
    """The top of a book that every sequence number makes differently."""
    ids = (market_id(symbol), height, sequence, height * 10**9, height * 10**9 + 5)
    return Ticker(*ids, "chain-ws", text(1), text(sequence), "", "")


def gap(symbol: str, gap_id: int, first: int, last: int = 0) -> Gap:
    ts = first * 10**9
    return Gap(market_id(symbol), gap_id, "closed" if last else "open", "mute", first, last, ts)


@dataclass
class Script:
    """The aggregator's arithmetic, without sockets."""

    publisher_epoch: int = 1
    history: ReplayBuffer = field(default_factory=ReplayBuffer)
    head: int = 0
    sequences: dict[str, int] = field(default_factory=dict)
    markets: list[dict[str, Any]] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=lambda: {"coverage": {"now": 1.0}})
    cluster: dict[str, Any] | None = None
    silent: bool = False
    origin: dict[str, Any] = field(default_factory=dict)
    _count: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def publish(self, symbol: str, event: Event) -> tuple[bytes, bytes]:
        """Number an event, remember it, and return what goes on the wire."""
        channel = CHANNELS[type(event)]
        kind = frames.KIND_BY_CHANNEL[channel]
        topic = frames.topic(channel, symbol)
        sequence = self.sequences[topic] = self.sequences.get(topic, 0) + 1
        body = self._body(kind, sequence, event)
        whole = channel in frames.STATES or (isinstance(event, Book) and event.is_snapshot)
        self.history.add(topic, sequence, height_of(event), body, whole=whole)
        return topic.encode(), body

    def keyframe(self, symbol: str, event: Book | Ticker) -> None:
        """Remember a whole book, or a state, without publishing it."""
        channel = CHANNELS[type(event)]
        topic = frames.topic(channel, symbol)
        sequence = self.sequences.get(topic, 0)
        body = self._body(frames.KIND_BY_CHANNEL[channel], sequence, event)
        self.history.add(topic, sequence, event.height, body, published=False, whole=True)

    def answer(self, request: dict[str, Any]) -> list[bytes]:
        ask = request.get("ask")
        if ask in ("status", "markets", "cluster"):
            reply = {"id": request["id"], ask: getattr(self, ask)}
            return [msgspec.msgpack.encode(reply)]
        return self.history.answer(request, self.publisher_epoch, self.head, origin=self.origin)

    def _body(self, kind: int, sequence: int, event: Event) -> bytes:
        n = next(self._count)
        ts = 1_700_000_000_000_000_000 + n
        epochs = (self.publisher_epoch, sequence)
        return frames.prefix(kind, *epochs, ts, ts - 1, 3, 9, n) + frames.encode(event)


def height_of(event: Event) -> int:
    return event.first if isinstance(event, Gap) else event.height


def free_endpoint() -> str:
    """A loopback endpoint whose port and the one after it are free, and given to no other test."""
    return f"tcp://127.0.0.1:{free_port_pair()}"


def _bind(bound: "zmq.Socket[bytes]", endpoint: str) -> None:
    """Bind, also where a predecessor has just been closed: that takes effect a little later."""
    deadline = time.monotonic() + 30
    while True:
        try:
            bound.bind(endpoint)
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE or time.monotonic() > deadline:
                raise
        else:
            return


class ScriptedPublisher:
    """A `Script` behind sockets; `send` publishes, `drop` remembers without publishing."""

    def __init__(self, script: Script, endpoint: str) -> None:
        self.script = script
        self.endpoint = endpoint
        self.subscriptions: list[bytes] = []
        self.asked: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._xpub = context.socket(zmq.XPUB)
        self._router = context.socket(zmq.ROUTER)
        for bound in (self._xpub, self._router):
            bound.setsockopt(zmq.LINGER, 0)
        host, port = endpoint.rsplit(":", 1)
        _bind(self._xpub, endpoint)
        _bind(self._router, f"{host}:{int(port) + 1}")
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def send(self, symbol: str, event: Event) -> None:
        with self._lock:
            self._xpub.send_multipart(self.script.publish(symbol, event))

    def drop(self, symbol: str, event: Event) -> None:
        with self._lock:
            self.script.publish(symbol, event)

    def send_parts(self, *parts: bytes) -> None:
        with self._lock:
            self._xpub.send_multipart(parts)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._xpub.close(0)
        self._router.close(0)

    def _serve(self) -> None:
        while not self._stop.is_set():
            # The XPUB is shared with `send`, so it is touched under the lock only.
            if self._router.poll(10):
                peer, request = self._router.recv_multipart()
                with self._lock:
                    self._reply(peer, msgspec.msgpack.decode(request))
            with self._lock:
                while int(self._xpub.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                    self.subscriptions.append(self._xpub.recv())

    def _reply(self, peer: bytes, request: dict[str, Any]) -> None:
        self.asked.append(request)
        if not self.script.silent:
            self._router.send_multipart([peer, *self.script.answer(request)])


@contextmanager
def publishing(
    script: Script | None = None, endpoint: str | None = None
) -> Iterator[ScriptedPublisher]:
    publisher = ScriptedPublisher(script or Script(), endpoint or free_endpoint())
    try:
        yield publisher
    finally:
        publisher.close()
