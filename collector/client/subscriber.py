"""
The sockets around an `Inbox`: a SUB for the frames, a DEALER for the requests.

Both iterators deliver the same events. The inbox is ticked only while no frame waits in the
socket, so that frames in flight do not count as lost.
"""

import asyncio
import importlib.util
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Self

import zmq

from collector.access.key_files import Keys
from collector.client.received import ChainReplaced, Received
from collector.client.requests import RequestClient, RequestSocket, encode
from collector.client.sockets import connected
from collector.client.topic_filter import Wanted, symbol_pattern, symbols_only
from collector.client.topic_sync import Inbox
from collector.client.whole_book import load_or_apply
from collector.settings import installed
from collector.settings.parts import DEFAULT_PUBLISH, requests_endpoint
from shards.protocol.errors import SequenceGap
from shards.protocol.events import Book
from shards.protocol.frames import KIND_BY_CHANNEL, PREFIX_SIZE, ts_pub_of
from shards.protocol.histograms import Histogram
from shards.protocol.order_book import OrderBook

if TYPE_CHECKING:
    from collector.client.arrow_batches import Batches
    from collector.tables.arrow import Decimals

_BATCH: Final = 256
"""Frames read at once: bounds the events in memory and gives other tasks a turn."""
_UNSENT: Final = 64
"""Requests that may wait for a connection."""
_ARRAY_OF_TEN: Final = b"\x9a"


class Subscriber:
    """
    Frames of the wanted topics, each once and in order; a `Lost` replaces what cannot be delivered.

    Iterate it, with either ``for`` or ``async for``, inside its ``with`` or ``async with`` block.
    Names match as written, or ignoring case. A `Joined` lists the names that match nothing. Use
    it from one thread only.

    Raises:
        ValueError: If a channel is unknown, nothing is requested, or an endpoint is neither tcp
            nor ipc; while iterating, if the publisher's version is newer.
        RuntimeError: While iterating, if it was never entered.

    """

    def __init__(
        self,
        connect: str = DEFAULT_PUBLISH,
        *,
        markets: str | Iterable[str] = ("*",),
        channels: str | Iterable[str] = tuple(KIND_BY_CHANNEL),
        requests: str | None = None,
        hwm: int = 50_000,
        keep_books: bool = False,
        silent_s: float = 3.0,
        keys: Keys | str | os.PathLike[str] | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        """
        Args:
            connect: The aggregator's publish endpoint.
            markets: Symbols (``INJ-USDT``), tickers (``INJ/USDT``), or globs of them; one or more.
            channels: Any of ``book``, ``trades``, ``ticker``, ``orders``, ``oracle``,
                ``funding``, ``markets``, ``blocks``, ``gap``; channels not collected stay silent.
            requests: Where requests go; by default it follows from `connect`.
            hwm: Frames that ZeroMQ may queue here; dropped ones are requested again.
            keep_books: Whether to maintain the books that `book` returns.
            silent_s: Silence after which an `Unanswered` is delivered.
            keys: Your key file, which also names the collector's public key; or `Keys`.

        Raises:
            ValueError: If a channel is unknown, a market is named by its id, or nothing is asked for.
            ConfigError: If the key file cannot be used; the text says the cure.

        """
        self.connect = connect
        self.requests = requests_endpoint(connect) if requests is None else requests
        self.inbox = Inbox(Wanted(symbols_only(markets), channels), silent_s=silent_s)
        self.latency = Histogram()
        """Latency from ``ts_pub`` to our read, ns, of the first frame of each read."""
        self._hwm = hwm
        self._keys = keys if isinstance(keys, Keys | None) else Keys.read(keys)
        self._is_used = False
        self._context = context
        self._books: dict[str, OrderBook] | None = {} if keep_books else None
        self._ready: deque[Received] = self.inbox.ready
        self._frames: zmq.Socket[bytes] | None = None
        self._dealer: RequestSocket | None = None

    def __enter__(self) -> Self:
        context = self._context or zmq.Context.instance()
        self._is_used = True
        self._frames = connected(context, zmq.SUB, self.connect, hwm=self._hwm, keys=self._keys)
        self._dealer = RequestSocket(context, self.requests, self._keys)
        self._subscribe()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets; iterators end after the events that are ready."""
        if self._frames is not None:
            self._frames.close(linger=0)
        if self._dealer is not None:
            self._dealer.close()
        self._frames = self._dealer = None

    @property
    def pending(self) -> int:
        """Events available without waiting."""
        return len(self._ready)

    def book(self, symbol: str) -> OrderBook | None:
        """
        Return a market's book as of the last delivered event; do not change it.

        None before its first snapshot, and after a `Lost` until the next one.

        Raises:
            ValueError: If the subscriber was created without `keep_books`.

        """
        if self._books is None:
            raise ValueError("no books are kept: create the Subscriber with keep_books=True")
        return self._books.get(symbol_pattern(symbol))

    @property
    def is_open(self) -> bool:
        """Whether its sockets are open: from its ``with`` until `close`."""
        return self._frames is not None

    def arrow(
        self, *, rows: int = 1_000, every: float = 1.0, decimals: "Decimals" = "exact"
    ) -> "Batches":
        """
        Return what comes as Arrow batches, to be iterated with ``for`` or ``async for``.

        Each `Batch` has rows of one channel, with the columns, types and units that the archive
        has for it (docs/archive.md): one query runs on both. Amounts are the chain's, exact;
        instants are naive UTC in nanoseconds. Whole books are the channel ``keyframe``. What is
        lost is never passed over: it stands in `Batch.notices`.

        Args:
            rows: A channel with so many rows is handed out at once. An event of several rows
                (a block's trades) is not split, so a batch may have a few more.
            every: Seconds after which the rows that are there are handed out, however few.
            decimals: Amounts as DECIMAL(38, 18), as float64, or as text.

        Raises:
            ValueError: If an argument is out of range.
            ImportError: If pyarrow is not installed; it says what to type.

        """
        if rows < 1 or not 0 < every < math.inf:
            raise ValueError(f"rows={rows!r}, every={every!r}: rows is 1 or more, every above 0")
        if decimals not in ("exact", "float", "text"):
            raise ValueError(f"decimals={decimals!r}: choose exact, float or text")
        if importlib.util.find_spec("pyarrow") is None:
            raise ImportError(installed.missing("archive", "pyarrow is"))
        from collector.client.arrow_batches import Batches

        return Batches(self, rows, every, decimals)

    # -- sync --------------------------------------------------------------------------

    def poll(self, timeout_s: float | None = None) -> Received | None:
        """Return the next event, or None after the timeout or once the sockets are closed."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._ready:
            if self._frames is None or self._dealer is None:
                self._must_be_used()
                return None
            if self._turn():
                continue
            now = time.monotonic()
            wait_s = self.inbox.due_s(now)
            if deadline is not None:
                if now >= deadline:
                    return None
                wait_s = min(wait_s, deadline - now)
            poller = zmq.Poller()
            poller.register(self._frames, zmq.POLLIN)
            poller.register(self._dealer.socket, self._awaited(self._dealer))
            poller.poll(math.ceil(wait_s * 1000))
        return self._next()

    def __iter__(self) -> Iterator[Received]:
        while (received := self.poll()) is not None:
            yield received

    # -- async -------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        while not self._ready:
            if self._frames is None:
                self._must_be_used()
                raise StopAsyncIteration
            if self._turn():
                # Yield to the loop after each batch: a busy stream must not starve other tasks.
                await asyncio.sleep(0)
            else:
                await self._wait(self.inbox.due_s(time.monotonic()))
        return self._next()

    async def _wait(self, timeout_s: float) -> None:
        """Wait for either socket; a ZeroMQ descriptor only signals that one should check."""
        if self._frames is None or self._dealer is None:
            return
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        dealer = self._dealer
        awaited = ((self._frames, zmq.POLLIN), (dealer.socket, self._awaited(dealer)))
        descriptors = [int(socket.getsockopt(zmq.FD)) for socket, _ in awaited]
        timer = loop.call_later(timeout_s, wake)
        for descriptor in descriptors:
            loop.add_reader(descriptor, wake)
        try:
            # The edge may already have passed, because sending and receiving consume it.
            if not any(int(s.getsockopt(zmq.EVENTS)) & events for s, events in awaited):
                await woken
        finally:
            timer.cancel()
            for descriptor in descriptors:
                loop.remove_reader(descriptor)

    # -- both --------------------------------------------------------------------------

    def _must_be_used(self) -> None:
        """Raise instead of ending silently if nothing was ever subscribed to."""
        if not self._is_used:
            raise RuntimeError(
                "nothing is subscribed to yet: iterate inside `with Subscriber(…) as subscriber:`, "
                "or `async with`"
            )

    def _awaited(self, dealer: RequestSocket) -> int:
        return dealer.awaited(unsent=bool(self.inbox.requests))

    def _turn(self) -> bool:
        """Process what is available without waiting; return whether there may be more."""
        frames, dealer = self._frames, self._dealer
        if frames is None or dealer is None:
            return False
        if not self._drain_frames(frames):
            return True
        while (parts := dealer.receive()) is not None:
            self.inbox.reply(parts, time.monotonic(), time.time_ns())
        self.inbox.tick(time.monotonic())
        self._subscribe()
        return self._send(dealer) or bool(self._ready)

    def _drain_frames(self, frames: "zmq.Socket[bytes]") -> bool:
        """Read up to a batch of frames; return whether those were all."""
        receive, recv = self.inbox.receive, frames.recv
        ts_sub = time.time_ns()
        for taken in range(_BATCH):
            try:
                topic, body = recv(zmq.NOBLOCK), recv(zmq.NOBLOCK)
            except zmq.Again:
                return True
            receive(topic, body, ts_sub)
            if not taken and len(body) > PREFIX_SIZE and body[:1] == _ARRAY_OF_TEN:
                self.latency.record(ts_sub - ts_pub_of(body))
            if body[:1] != _ARRAY_OF_TEN:
                # Not a message of two parts: skip to the start of the next one.
                while frames.getsockopt(zmq.RCVMORE):
                    recv(zmq.NOBLOCK)
        return False

    def _send(self, dealer: RequestSocket) -> bool:
        """Send the queued requests; return whether any was sent."""
        requests, sent = self.inbox.requests, False
        while requests and dealer.send(encode(requests[0])):
            requests.popleft()
            sent = True
        # Not connected. Every request is repeated in time, so old ones can be dropped.
        while len(requests) > _UNSENT:
            requests.popleft()
        return sent

    def _subscribe(self) -> None:
        while self._frames is not None and self.inbox.subscriptions:
            self._frames.setsockopt_string(zmq.SUBSCRIBE, self.inbox.subscriptions.popleft())

    def _next(self) -> Received:
        received = self._ready.popleft()
        if self._books is not None and received.channel == "book":
            _keep(self._books, received)
        elif self._books and type(received.event) is ChainReplaced:
            self._books.clear()
        return received

    # -- requests ----------------------------------------------------------------------

    def status(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """
        Ask the aggregator for its status; blocks, also inside an event loop.

        Raises:
            TimeoutError: If there is no answer in time.

        """
        status: dict[str, Any] = self._ask("status", timeout_s)
        return status

    def markets(self, timeout_s: float = 5.0) -> list[dict[str, Any]]:
        """
        Ask the aggregator for its markets; blocks, also inside an event loop.

        Raises:
            TimeoutError: If there is no answer in time.

        """
        markets: list[dict[str, Any]] = self._ask("markets", timeout_s)
        return markets

    def _ask(self, what: str, timeout_s: float) -> Any:
        with RequestClient(self.requests, self._keys) as client:
            return client.ask(what, within_s=timeout_s)[what]


def _keep(books: dict[str, OrderBook], received: Received) -> None:
    """Apply an event to its market's book; discard a book that is out of sync."""
    event, symbol = received.event, received.symbol
    if not isinstance(event, Book):
        books.pop(symbol, None)
        return
    if event.is_snapshot:
        # A new object: references to the old one stay consistent, though outdated.
        books[symbol] = OrderBook(event.market_id)
    book = books.get(symbol)
    if book is None:
        return
    try:
        load_or_apply(book, event)
    except SequenceGap:
        del books[symbol]
