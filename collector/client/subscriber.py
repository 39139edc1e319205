"""
The sockets around an `Inbox`: a SUB for the frames, a DEALER for the requests.

Both iterators deliver the same events. The inbox is ticked only while no frame waits in the socket,
so that frames in flight do not count as lost. With several cells, each has its own sockets and
inbox, and an `Arbiter` merges their events.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import zmq

from collector.access.key_files import Keys
from collector.client import forks
from collector.client.cells.arbiter import Arbiter
from collector.client.cells.cell import Cell
from collector.client.cluster_map import ClusterMap, usable_endpoints
from collector.client.kept_books import KeptBooks
from collector.client.link import Link, markets_of
from collector.client.received import Received
from collector.client.topic_cursor import Position
from collector.client.topic_filter import Wanted, symbol_pattern, symbols_only
from collector.client.topic_sync import Inbox
from collector.client.waiting import Awaited, Waiting, wait_blocking
from collector.settings.addresses import endpoints_of
from collector.settings.parts import DEFAULT_PUBLISH, requests_endpoint
from shards.protocol.errors import OtherVersion
from shards.protocol.frames import KIND_BY_CHANNEL
from shards.protocol.histograms import Histogram
from shards.protocol.order_book import OrderBook

if TYPE_CHECKING:
    from collector.client.arrow_batches import Batches
    from collector.tables.arrow import Decimals
from collector.client.arguments import (
    check_alone,
    check_batches,
    followed_by_inbox,
    one_for_each,
)

KeysOrPath: TypeAlias = Keys | str | os.PathLike[str] | None
"""A client's keys: themselves, their file, or none."""


class Subscriber:
    """
    Frames of the wanted topics, each once and in order; a `Lost` replaces what cannot be delivered.

    Iterate it, with either ``for`` or ``async for``, inside its ``with`` or ``async with`` block.
    Names match as written, or ignoring case. A `Joined` lists the names that match nothing. Use
    it from one thread only.

    Several endpoints are several cells: collectors of one chain that know nothing of each other.
    Each fact is delivered once, from the cell that has it first, and a `Lost` only if no cell has
    it any more. Only `cells` shows that a cell died, restarted or lost its network. `Unanswered`
    means that no cell answers. Cells may have the same markets, or each a part of them.

    With `cluster`, a few cells of a cluster are enough: they tell where the others are, and cells
    that are started later are read too.

    Raises:
        ValueError: If a channel is unknown, nothing is requested, or an endpoint is neither tcp nor
            ipc; while iterating, if the publisher's version is newer.
        RuntimeError: While iterating, if it was never entered, or by another process before a fork.

    """

    def __init__(
        self,
        connect: str | Iterable[str] = DEFAULT_PUBLISH,
        *,
        markets: str | Iterable[str] = ("*",),
        channels: str | Iterable[str] = tuple(KIND_BY_CHANNEL),
        requests: str | Iterable[str] | None = None,
        hwm: int = 50_000,
        keep_books: bool = False,
        history: bool = False,
        silent_s: float = 3.0,
        keys: KeysOrPath | Sequence[KeysOrPath] = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        cluster: str | Iterable[str] | None = None,
    ) -> None:
        """
        Args:
            connect: The aggregator's publish endpoint, or several: a list, or separated by commas.
            markets: Symbols (``INJ-USDT``), tickers (``INJ/USDT``), or globs of them; one or more.
            channels: Any of ``book``, ``trades``, ``ticker``, ``orders``, ``oracle``, ``funding``,
                ``markets``, ``blocks``, ``gap``; channels not collected stay silent.
            requests: Where requests go; by default derived from `connect`. With several cells, one
                for each.
            hwm: Frames that ZeroMQ may queue here; dropped ones are requested again.
            keep_books: Whether to maintain the books that `book` returns.
            history: Whether to begin with the frames that the aggregator has kept of each topic
                (the newest hundred or so), instead of with new ones.
            silent_s: Silence after which an `Unanswered` is delivered.
            keys: Your key file, which also names the collector's public key; or `Keys`. If several
                cells have different keys: one for each.
            cluster: Instead of `connect`: publish endpoints of one or more cells of a cluster
                (docs/cluster.md). All its cells are read, with the same `keys`.

        Raises:
            ValueError: If a channel is unknown, a market is named by its id, nothing is requested,
                the lists have different lengths, or `cluster` is given together with them.
            ConfigError: If the key file cannot be used; the text says what to do.

        """
        self.latency = Histogram()
        """Latency from ``ts_pub`` to our read, ns, of the first frame of each read."""
        if cluster is not None:
            check_alone(connect, requests, keys)
        endpoints = endpoints_of(connect if cluster is None else cluster)
        self.connect = ",".join(endpoints)
        wanted = Wanted(symbols_only(markets), channels)
        asked = one_for_each(endpoints, requests, "requests") or map(requests_endpoint, endpoints)
        held = one_for_each(endpoints, keys, "keys") or [keys] * len(endpoints)
        is_merged = len(endpoints) > 1 or cluster is not None
        followed = followed_by_inbox(wanted, markets, is_merged=is_merged)

        def link(endpoint: str, at: str, key: KeysOrPath) -> Link:
            return Link(
                endpoint,
                at,
                Inbox(followed, silent_s=silent_s, history=history, beginnings=is_merged),
                hwm=hwm,
                keys=key if isinstance(key, Keys | None) else Keys.read(key),
                latency=self.latency,
                asks_map=cluster is not None,
            )

        self._links = [link(*one) for one in zip(endpoints, asked, held, strict=True)]
        self._link_to = partial(link, key=self._links[0].keys)
        self._generation, self._is_used, self._waiting = 0, False, Waiting()
        self._is_inherited = False
        self.requests = self._links[0].requests
        """Where requests go; with several cells, to the first."""
        self.inbox = self._links[0].inbox
        """With several cells, that of the first one."""
        self._arbiter: Arbiter | None = None
        if is_merged:
            named = [(link.connect, link.inbox) for link in self._links]
            self._arbiter = Arbiter(named, wanted.channels)
        self._context = context
        self._books = KeptBooks() if keep_books else None
        self._ready: deque[Received] = (self._arbiter or self.inbox).ready

    def __enter__(self) -> Self:
        context = self._context = self._context or zmq.Context.instance()
        self._is_used = True
        for link in self._links:
            link.open(context)
        self._is_inherited = False
        forks.remember(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def leave_to_parent(self) -> None:
        """In a forked process: ZeroMQ's sockets work in the process that opened them alone."""
        self._is_inherited = self.is_open
        self._ready.clear()
        for link in self._links:
            link.forget()

    def close(self) -> None:
        """Close the sockets; iterators end after the events that are ready."""
        self._waiting.end()
        for link in self._links:
            link.close()

    @property
    def cells(self) -> Sequence[Cell]:
        """The state of each of several cells; empty with one."""
        return [] if self._arbiter is None else self._arbiter.cells

    def inboxes(self) -> list[Inbox]:
        """Return the inbox of each cell that is read."""
        return [link.inbox for link in self._links if link.is_open]

    def refuse(self, cell: Cell, reason: str) -> None:
        """Stop reading one of several cells, for good."""
        if self._arbiter is not None:
            self._arbiter.refuse(cell, reason)

    @property
    def is_joined(self) -> bool:
        """Whether at least one cell has answered."""
        return any(link.inbox.publisher.epoch for link in self._links)

    def awaits_history(self) -> bool:
        """Whether it has not joined yet, or kept frames are still on their way."""
        joined = [link.inbox for link in self._links if link.inbox.publisher.epoch]
        return not joined or any(inbox.awaits_history() for inbox in joined)

    def resume(self, positions: Iterable[Position], head: int) -> None:
        """Continue from another subscriber's positions; call it before the ``with`` block."""
        (self._arbiter or self.inbox).resume(positions, head)

    def positions(self) -> Iterator[Position]:
        """Return the position in every topic: what was delivered, and what may be missing."""
        return (self._arbiter or self.inbox).positions()

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
        return any(link.is_open for link in self._links)

    def arrow(
        self, *, rows: int = 1_000, every: float = 1.0, decimals: "Decimals" = "exact"
    ) -> "Batches":
        """
        Return incoming events as Arrow batches, to be iterated with ``for`` or ``async for``.

        Each `Batch` has rows of one channel, with the archive's columns, types and units
        (docs/archive.md), so the same query runs on both. Amounts are the chain's, exact; instants
        are naive UTC in nanoseconds. Whole books are the channel ``keyframe``. A loss is never
        silent: it is in `Batch.notices`.

        Args:
            rows: A channel's batch is delivered as soon as it has so many rows. An event of several
                rows (a block's trades) is not split, so a batch may have a few more.
            every: Seconds after which the available rows are delivered, however few.
            decimals: Amounts as DECIMAL(38, 18), as float64, or as text.

        Raises:
            ValueError: If an argument is out of range.
            ImportError: If pyarrow is not installed; it says what to type.

        """
        check_batches(rows, every, decimals)
        from collector.client.arrow_batches import Batches

        return Batches(self, rows, every, decimals)

    # -- sync --------------------------------------------------------------------------

    def poll(self, timeout_s: float | None = None) -> Received | None:
        """Return the next event, or None after the timeout or once the sockets are closed."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._ready:
            if not self.is_open:
                self._must_be_used()
                return None
            if self._turn():
                continue
            now = time.monotonic()
            wait_s = self._due_s(now)
            if deadline is not None:
                if now >= deadline:
                    return None
                wait_s = min(wait_s, deadline - now)
            wait_blocking(self._awaited(), wait_s)
        return self._next()

    def __iter__(self) -> Iterator[Received]:
        while (received := self.poll()) is not None:
            yield received

    # -- async -------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        while not self._ready:
            if not self.is_open:
                self._must_be_used()
                raise StopAsyncIteration
            if self._turn():
                # Yield to the loop after each batch: a busy stream must not starve other tasks.
                await asyncio.sleep(0)
            else:
                await self._waiting.wait(self._awaited(), self._due_s(time.monotonic()))
        return self._next()

    # -- both --------------------------------------------------------------------------

    def _must_be_used(self) -> None:
        """Raise instead of ending silently if nothing was ever subscribed to, by this process."""
        if self._is_inherited:
            raise RuntimeError(forks.FORKED)
        if not self._is_used:
            raise RuntimeError(
                "nothing is subscribed to yet: iterate inside `with Subscriber(…) as subscriber:`, "
                "or `async with`"
            )

    def _awaited(self) -> Awaited:
        return [awaited for link in self._links for awaited in link.awaited()]

    def _due_s(self, now: float) -> float:
        return min(link.inbox.due_s(now) for link in self._links)

    def _turn(self) -> bool:
        """Process what is available without waiting; return whether there may be more."""
        arbiter = self._arbiter
        if arbiter is None:
            try:
                return self._links[0].turn() or bool(self._ready)
            except OtherVersion as error:
                raise OtherVersion(f"{self.connect}: {error}") from None
        has_more = False
        for link, cell in zip(tuple(self._links), tuple(arbiter.cells), strict=True):
            try:
                has_more = link.turn() or has_more
            except OtherVersion as error:
                # Continue with the other cells.
                link.close()
                arbiter.refuse(cell, str(error))
                if not self.is_open:
                    raise OtherVersion(f"{link.connect}: {error}") from None
            if link.map.generation > self._generation:
                self._follow(link.map, arbiter)
        arbiter.turn(time.monotonic())
        for link, cell in zip(self._links, arbiter.cells, strict=True):
            if cell.refused and link.is_open:
                link.close()
        return has_more or bool(self._ready)

    def _follow(self, newest: ClusterMap, arbiter: Arbiter) -> None:
        """Read the cells of a newer map too. One that is gone stays silent, and may come back."""
        self._generation = newest.generation
        known = {link.connect for link in self._links}
        for endpoint in usable_endpoints(newest):
            if endpoint not in known and self._context is not None:
                link = self._link_to(endpoint, requests_endpoint(endpoint))
                if link.try_open(self._context):
                    self._links.append(link)
                    arbiter.add(endpoint, link.inbox)

    def _next(self) -> Received:
        received = self._ready.popleft()
        if self._books is not None:
            self._books.take(received)
        return received

    # -- requests ----------------------------------------------------------------------

    def status(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """
        Ask the aggregator for its status; blocks, also inside an event loop.

        Of several cells, the first one that answers.

        Raises:
            TimeoutError: If there is no answer in time.
            ValueError: If something else answers.

        """
        status: dict[str, Any] = self._answering()[0].ask("status", timeout_s)
        return status

    def markets(self, timeout_s: float = 5.0) -> list[dict[str, Any]]:
        """
        Ask the aggregator for its markets; blocks, also inside an event loop.

        Of several cells, those of all that answer, each market once: cells may be parts.

        Raises:
            TimeoutError: If there is no answer in time; of several cells, from none.

        """
        return markets_of(self._answering(), timeout_s)

    def _answering(self) -> list[Link]:
        """Return the cells that answer, or the first one if none does."""
        pairs = zip(self._links, self.cells, strict=False)
        return [link for link, cell in pairs if cell.answers] or self._links[:1]
