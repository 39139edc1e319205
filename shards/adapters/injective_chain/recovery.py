"""
What runs beside the data path of a shard that reads the chain.

The fetcher carries out the pipeline's requests (snapshots, lost blocks, new subscriptions). The
watch finds silent subscriptions. Funding, which no stream carries, is polled.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Final

from shards.adapters import registry
from shards.adapters.injective_chain.funding import FundingPoll
from shards.adapters.injective_chain.liveness import Watchdog
from shards.adapters.injective_chain.lost_blocks import (
    EventProviderReplay,
    Replayer,
    RpcReplay,
    times_by,
)
from shards.adapters.injective_chain.redundancy.judge import Judge
from shards.adapters.injective_chain.redundancy.path_watch import PathWatch
from shards.adapters.injective_chain.redundancy.source import RedundantSource
from shards.adapters.injective_chain.snapshots import Snapshots, is_answer
from shards.adapters.interface import RecoveryContext, ReplaySource
from shards.adapters.reconnecting import Reconnecting
from shards.core.blocks import Blocks
from shards.core.pipeline import Pipeline
from shards.core.record_builder import NeedReplay, NeedSnapshot, NeedSubscription
from shards.net.access import Access
from shards.net.backoff import Backoff, Backoffs
from shards.net.nodes import Nodes
from shards.net.rate_limiter import RateLimiter
from shards.net.rpc import Rpc
from shards.protocol.channels import EXTRAS
from shards.protocol.errors import SourceError
from shards.protocol.events import Divergence, Funding, Snapshot
from shards.protocol.settings import Market, ShardConfig

log = logging.getLogger(__name__)

_ANSWERS: Final = 3
"""Attempts after which a pinned height is given up."""


class _WantedBook:
    """The fetching of one market's book."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        """The pipeline's, when it was requested."""
        self.height = 0
        """The height after which the book is wanted; 0: the newest."""
        self.answers = 0
        """Servers' answers to the newest request."""
        self.found: Snapshot | None = None
        """The last snapshot; it may be ahead of the stream."""


class Fetcher:
    """Carries out the requests of one pipeline, within the limits on rate and concurrency."""

    def __init__(self, parts: RecoveryContext, nodes: Nodes) -> None:
        config = parts.config
        self._limits = config.limits
        self._pipeline: Pipeline[Blocks] = parts.pipeline
        self._blocks = self._pipeline.liveness
        self._pusher = parts.pusher
        self._tasks = parts.tasks
        self._push_new = parts.push_new
        self._subscribe_anew = parts.source.resubscribe
        self._snapshots = Snapshots(config.endpoints.chain_grpc, parts.access, nodes)
        self._snapshot_pace = RateLimiter(self._limits.snapshot_per_s)
        self._snapshot_slots = asyncio.Semaphore(self._limits.snapshot_concurrency)
        self._books: dict[str, _WantedBook] = {}
        """The books being fetched, by market id."""
        sources = _replay_sources(config, self._pipeline.markets, parts.access, nodes)
        self._replayer = Replayer(sources)
        self._replay_pace = RateLimiter(self._limits.replay_per_s)
        self._replay_due = asyncio.Event()
        self._backoffs = Backoffs()
        self._waiting: set[str] = set()

    def dispatch(self) -> None:
        """Start everything that the pipeline requests now."""
        for request in self._pipeline.take_requests():
            if isinstance(request, NeedReplay):
                self._replay_due.set()
            elif isinstance(request, NeedSnapshot):
                self._want_book(request)
            elif request.market_id not in self._waiting:
                self._waiting.add(request.market_id)
                self._tasks.create_task(self._resubscribe(request))

    def _want_book(self, request: NeedSnapshot) -> None:
        """Fetch a market's book, unless it is being fetched."""
        found = self._books.get(request.market_id)
        if found is None:
            found = self._books[request.market_id] = _WantedBook(self._pipeline.generation)
            self._tasks.create_task(self._fetch_book(request.market_id, found))
        if request.height:
            # A request for the newest book does not replace that for the book of a height.
            found.height, found.answers = request.height, 0

    async def _fetch_book(self, market_id: str, wanted: "_WantedBook") -> None:
        """Fetch snapshots of a market's book until one joins."""
        backoff = Backoff(base_s=0.1, cap_s=5.0)
        try:
            while self._pipeline.wants_snapshot(market_id):
                if not self._join(wanted):
                    await self._fetch_snapshot(market_id, wanted)
                    self._join(wanted)
                if not self._pipeline.wants_snapshot(market_id):
                    break
                if self._pipeline.generation != wanted.generation:
                    # The request belongs to a chain that was replaced.
                    wanted.generation, wanted.height = self._pipeline.generation, 0
                    wanted.found = None
                if wanted.height and wanted.answers >= _ANSWERS:
                    # The node has pruned that height, or it does not join: try the newest. Not
                    # while no node answers. The newest book would hide the changes before it.
                    wanted.height = 0
                    self._pipeline.postpone_book(market_id)
                await asyncio.sleep(0.05 + backoff.next_s())
        finally:
            del self._books[market_id]

    async def _fetch_snapshot(self, market_id: str, wanted: "_WantedBook") -> None:
        market = self._pipeline.markets[market_id]
        try:
            async with self._snapshot_slots:
                await self._snapshot_pace.turn()
                wanted.found = await self._snapshots.fetch(
                    market, wanted.height, self._pipeline.snapshot_from(market_id)
                )
            wanted.answers += 1
        except SourceError as error:
            wanted.answers += is_answer(error)
            log.info("%s; trying again", error)

    def _join(self, wanted: "_WantedBook") -> bool:
        """Give the snapshot to its feed; one that is ahead of the stream joins at a later try."""
        if wanted.found is None or self._pipeline.generation != wanted.generation:
            return False
        has_joined = self._pipeline.join(wanted.found, time.time_ns())
        self._push_new()
        return has_joined

    async def _resubscribe(self, request: NeedSubscription) -> None:
        """Reopen one market's subscription, more and more slowly until blocks come."""
        feed = self._pipeline.feeds.get(request.market_id)
        reached = feed.ledger.last if feed is not None else 0
        await asyncio.sleep(self._backoffs.next_s(request.market_id, reached))
        self._waiting.discard(request.market_id)
        self._subscribe_anew(request.market_id)

    async def replay_lost(self) -> None:
        """Fetch lost blocks in order, a few at once, whenever there are any; never returns."""
        while True:
            await self._replay_due.wait()
            self._replay_due.clear()
            while heights := self._blocks.due_replays(self._limits.replay_concurrency):
                if self._pusher.stuck:
                    # The aggregator does not even take what we have.
                    await asyncio.sleep(0.2)
                    continue
                async with asyncio.TaskGroup() as tasks:
                    for height in heights:
                        tasks.create_task(self._replay_block(height))

    async def _replay_block(self, height: int) -> None:
        generation = self._pipeline.generation
        await self._replay_pace.turn()
        block = await self._replayer.fetch(height)
        if self._pipeline.generation == generation:
            self._blocks.replay(height, block, time.time_ns())
            self._push_new()

    @property
    def waiting(self) -> int:
        """Snapshots and subscriptions currently requested."""
        return len(self._books) + len(self._waiting)

    async def aclose(self) -> None:
        """Close the fetching connections."""
        await self._snapshots.close()
        await self._replayer.aclose()


def _replay_sources(
    config: ShardConfig, markets: Mapping[str, Market], access: Access, nodes: Nodes
) -> list[ReplaySource]:
    """Create all sources of lost blocks, best first."""
    found = config.endpoints
    extras = not EXTRAS.isdisjoint(config.channels)
    sources: list[ReplaySource] = [
        RpcReplay(
            Rpc(url, access),
            access,
            with_extras=extras,
            vet=functools.partial(nodes.vet, url, "rpc"),
        )
        for url in found.rpc
    ]
    sources += [
        EventProviderReplay(
            at, access, with_extras=extras, vet=functools.partial(nodes.vet, at, "events")
        )
        for at in found.events
    ]
    # Found out by those who still know blocks by their time.
    time_of = times_by(Rpc(found.rpc[0], access))
    return sources + registry.fallbacks(found, markets, access, time_of)


def _records(config: ShardConfig, access: Access) -> list[RpcReplay]:
    """Return what may decide between two nodes: each node's record, also that of a wrong one."""
    extras = not EXTRAS.isdisjoint(config.channels)
    return [RpcReplay(Rpc(url, access), access, with_extras=extras) for url in config.endpoints.rpc]


class ChainRecovery:
    """The fetcher, the watch and the funding poll of one shard."""

    def __init__(self, parts: RecoveryContext) -> None:
        config = parts.config
        self._pipeline: Pipeline[Blocks] = parts.pipeline
        self._push_new = parts.push_new
        self._nodes = Nodes(
            config.endpoints.rpc,
            parts.access,
            also=registry.witnesses(config.endpoints, parts.access),
        )
        self._fetcher = Fetcher(parts, self._nodes)
        self._watch = Watchdog(
            self._pipeline, parts.pusher, parts.source, self._nodes, push_new=parts.push_new
        )
        source = parts.source
        if isinstance(source, Reconnecting | RedundantSource):
            source.guard = self._watch
        self._judge: Judge | None = None
        if isinstance(source, RedundantSource):
            self._paths = PathWatch(source, self._pipeline.liveness, config.limits)
            self._judge = Judge(
                source,
                _records(config, parts.access),
                self._publish_divergences,
                distrust_s=config.limits.distrust_s,
            )
        self._with_funding = "funding" in config.channels
        self._funding = FundingPoll(
            config.endpoints.chain_grpc,
            parts.access,
            self._nodes,
            markets=lambda: tuple(self._pipeline.markets.values()),
            tell=self._publish_funding,
        )

    @property
    def nodes(self) -> Nodes:
        """The nodes, and what is known of their chain."""
        return self._nodes

    @property
    def halted(self) -> bool:
        """Whether the chain itself makes no blocks."""
        return self._watch.halted

    @property
    def waiting(self) -> int:
        """Snapshots and subscriptions currently requested."""
        return self._fetcher.waiting

    def dispatch(self) -> None:
        """Start everything that the pipeline requests now."""
        self._fetcher.dispatch()

    async def run(self) -> None:
        """Replay, watch and poll; never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fetcher.replay_lost())
            tasks.create_task(self._watch.run())
            if self._judge is not None:
                tasks.create_task(self._judge.run())
                tasks.create_task(self._paths.run())
            if self._with_funding:
                tasks.create_task(self._funding.run())

    def _publish_funding(self, changed: Iterable[Funding]) -> None:
        for event in changed:
            self._pipeline.publish(event.market_id, event)
        self._push_new()

    def _publish_divergences(self, events: Iterable[Divergence]) -> None:
        for event in events:
            self._pipeline.publish(event.market_id, event)
        self._push_new()

    async def aclose(self) -> None:
        """Close every connection."""
        if self._judge is not None:
            await self._judge.aclose()
        await self._nodes.aclose()
        await self._funding.aclose()
        await self._fetcher.aclose()
