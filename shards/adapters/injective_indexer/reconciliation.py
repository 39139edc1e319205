"""Recovery for an indexer's shard: snapshots, audits, new subscriptions, and ticks."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Final

from shards.adapters.injective_indexer.chain_watch import ChainWatch
from shards.adapters.injective_indexer.proofs import Proofs
from shards.adapters.injective_indexer.queries import IndexerQueries
from shards.adapters.injective_indexer.service import Service
from shards.adapters.injective_indexer.source import IndexerGrpc
from shards.adapters.injective_indexer.trade_lists import TradeLists
from shards.adapters.interface import RecoveryContext
from shards.core.pipeline import Pipeline
from shards.core.record_builder import NeedSnapshot, NeedSubscription
from shards.net.backoff import Backoff, Backoffs
from shards.net.nodes import Nodes
from shards.protocol.errors import DecodeError, SourceError
from shards.protocol.settings import Market
from shards.runtime.clock import SetClock

log = logging.getLogger(__name__)

_TICK_S: Final = 0.02
_LOOK_S: Final = 0.25
_BOOKS: Final = 20
"""Books per query."""
_AUDITED: Final = 100
"""Markets per audit."""
_RETRY_S: Final = 0.5


class Reconciliation:
    """The tasks beside the data path; none of them runs per message."""

    halted = False
    """The indexer does not say whether the chain makes blocks."""

    def __init__(self, parts: RecoveryContext) -> None:
        config, source = parts.config, parts.source
        limits = config.limits
        # The endpoint to query while the source has none in use.
        first = config.endpoints.indexer[0]
        self._pipeline: Pipeline[Proofs] = parts.pipeline
        self._proofs = self._pipeline.liveness
        self._pusher = parts.pusher
        self._source = source
        self._limits = limits
        self._with_trades = "trades" in config.channels
        self._tasks = parts.tasks
        self._push_new = parts.push_new
        services = {spot: Service(spot=spot) for spot in (True, False)}
        self._queries = IndexerQueries(
            lambda: source.endpoints.current or first, services, parts.access
        )
        assert isinstance(source, IndexerGrpc)
        self._watch = source.guard = ChainWatch(
            config.endpoints.indexer,
            Nodes(config.endpoints.rpc, parts.access),
            source,
            self._pipeline,
            TradeLists(services, parts.access),
        )
        self._wanted: set[str] = set()
        """Markets whose snapshot is requested but not being fetched yet."""
        self._fetching: set[str] = set()
        self._books_due = asyncio.Event()
        self._slots = asyncio.Semaphore(limits.snapshot_concurrency)
        self._backoffs = Backoffs()
        self._waiting: set[str] = set()
        self._audited_at: dict[str, float] = {}
        """By the first market of a group."""

    def dispatch(self) -> None:
        """Start everything that the pipeline requests now."""
        for request in self._pipeline.take_requests():
            if isinstance(request, NeedSnapshot):
                if request.market_id not in self._fetching:
                    self._wanted.add(request.market_id)
                    self._books_due.set()
            elif isinstance(request, NeedSubscription) and request.market_id not in self._waiting:
                self._waiting.add(request.market_id)
                self._tasks.create_task(self._resubscribe(request.market_id))

    async def run(self) -> None:
        """Run the tasks; never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick())
            tasks.create_task(self._watch.run())
            tasks.create_task(self._fetch_books())
            if self._with_trades:
                tasks.create_task(self._audit())

    @property
    def nodes(self) -> Nodes:
        """The RPCs, and what is known of the chain."""
        return self._watch.nodes

    @property
    def waiting(self) -> int:
        """Snapshots and subscriptions currently requested."""
        return len(self._wanted) + len(self._fetching) + len(self._waiting)

    async def _tick(self) -> None:
        """Pass the time to the feeds."""
        clock = SetClock()
        while True:
            await asyncio.sleep(_TICK_S)
            if clock.was_set():
                self._proofs.clock_set(time.time_ns())
            self._proofs.tick(time.time_ns())
            self._pusher.flush()
            self._push_new()

    async def _resubscribe(self, market_id: str) -> None:
        """Reopen one market's streams, more and more slowly until it goes live."""
        track = self._proofs.tracks.get(market_id)
        lives = track.lives if track is not None else 0
        await asyncio.sleep(self._backoffs.next_s(market_id, lives))
        self._waiting.discard(market_id)
        self._source.resubscribe(market_id)

    # ---- books ----------------------------------------------------------------------

    async def _fetch_books(self) -> None:
        """Fetch snapshots, many per query; request those again that do not join."""
        while True:
            await self._books_due.wait()
            self._books_due.clear()
            # All requests of one loop iteration are fetched together.
            await asyncio.sleep(0)
            for batch in self._batches():
                self._tasks.create_task(self._fetch(batch))

    def _batches(self) -> Iterator[list[Market]]:
        wanted, self._wanted = self._wanted, set()
        for spot in (True, False):
            yield from _parts(self._pipeline.markets.values(), spot, _BOOKS, among=wanted)

    async def _fetch(self, batch: list[Market]) -> None:
        """Fetch the books of a batch until each has joined."""
        backoff = Backoff(base_s=0.1, cap_s=5.0)
        while batch:
            self._fetching |= {market.market_id for market in batch}
            await self._fetch_once(batch)
            # A book that has joined may be lost again while we still fetch the others.
            self._fetching -= {market.market_id for market in batch}
            batch = [m for m in batch if self._pipeline.wants_snapshot(m.market_id)]
            if batch:
                await asyncio.sleep(0.05 + backoff.next_s())
                batch = [m for m in batch if self._is_due(m.market_id)]

    def _is_due(self, market_id: str) -> bool:
        """Whether a snapshot is wanted that no other task is fetching."""
        return market_id not in self._fetching and self._pipeline.wants_snapshot(market_id)

    async def _fetch_once(self, batch: list[Market]) -> None:
        session = self._watch.session
        try:
            async with self._slots:
                books = await self._queries.books(batch)
        except SourceError as error:
            log.info("order books: %s; trying again", error)
            return
        if not self._believes(session):
            return
        ts_recv = time.time_ns()
        for book in books:
            self._pipeline.join(book, ts_recv)
        self._push_new()

    def _believes(self, session: int) -> bool:
        """Return whether an answer that was requested in a session is of the chain being collected."""
        return bool(session) and session == self._watch.session and not self._pipeline.suspect

    # ---- trades ---------------------------------------------------------------------

    async def _audit(self) -> None:
        """Compare received trades with the listed ones; at once if a market waits for it."""
        while True:
            await asyncio.sleep(_LOOK_S)
            for spot in (True, False):
                for part in _parts(self._pipeline.markets.values(), spot, _AUDITED):
                    await self._audit_part(spot, [market.market_id for market in part])

    async def _audit_part(self, spot: bool, market_ids: list[str]) -> None:
        proofs, queries = self._proofs, self._queries
        due = self._audited_at.get(market_ids[0], 0.0) + self._limits.audit_s
        if time.monotonic() < due and not proofs.wants_audit(market_ids):
            return
        session = self._watch.session
        if not self._believes(session):
            return
        try:
            if new := proofs.unanchored(market_ids):
                newest = await queries.newest_trade(spot, new)
                if not self._believes(session):
                    return
                proofs.anchored(new, newest)
            begun = time.time_ns()
            listed = await queries.trades(spot, market_ids, proofs.audit_from(market_ids))
            if not self._believes(session):
                return
            proofs.audited(market_ids, listed, begun, time.time_ns())
        except (SourceError, DecodeError) as error:
            log.info("trades: %s; trying again", error)
            await asyncio.sleep(_RETRY_S)
            return
        self._audited_at[market_ids[0]] = time.monotonic()
        self._push_new()

    async def aclose(self) -> None:
        """Close the query connections."""
        await self._watch.aclose()
        await self._queries.aclose()


def _parts(
    markets: Iterable[Market], spot: bool, size: int, among: set[str] | None = None
) -> Iterator[list[Market]]:
    """Divide one service's markets into groups; only the given ids, if any."""
    of_service = [
        market
        for market in markets
        if (market.type == "spot") == spot and (among is None or market.market_id in among)
    ]
    for start in range(0, len(of_service), size):
        yield of_service[start : start + size]
