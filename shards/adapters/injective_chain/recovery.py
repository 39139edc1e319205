"""See to what the pipeline asks for: books, lost blocks, new subscriptions. Nothing per message."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from shards.adapters.injective_chain.replay import (
    EventProviderReplay,
    Replayer,
    ReplaySource,
    RpcReplay,
)
from shards.adapters.injective_chain.snapshots import Snapshots
from shards.core.pipeline import Pipeline
from shards.core.record_builder import NeedReplay, NeedSnapshot, NeedSubscription
from shards.net.access import Access
from shards.net.backoff import Backoff
from shards.net.rate_limiter import Pace
from shards.net.rpc import Rpc
from shards.protocol.channels import EXTRAS
from shards.protocol.errors import SourceError
from shards.protocol.settings import Market, ShardConfig
from shards.push import Pusher

log = logging.getLogger(__name__)


class Fetcher:
    """Carries out the requests of one pipeline, at the paces and widths of the limits."""

    def __init__(
        self,
        config: ShardConfig,
        pipeline: Pipeline,
        pusher: Pusher,
        access: Access,
        *,
        tasks: asyncio.TaskGroup,
        settle: Callable[[], None],
        resubscribe: Callable[[str], None],
    ) -> None:
        self._limits = config.limits
        self._pipeline = pipeline
        self._pusher = pusher
        self._tasks = tasks
        self._settle = settle
        self._subscribe_anew = resubscribe
        self._snapshots = Snapshots(config.endpoints.chain_grpc, access)
        self._snapshot_pace = Pace(self._limits.snapshot_per_s)
        self._snapshot_slots = asyncio.Semaphore(self._limits.snapshot_concurrency)
        self._fetching: set[str] = set()
        self._replayer = Replayer(_replay_sources(config, pipeline.markets, access))
        self._replay_pace = Pace(self._limits.replay_per_s)
        self._replay_due = asyncio.Event()
        self._backoffs: dict[str, Backoff] = {}
        self._waiting: set[str] = set()

    def see_to(self) -> None:
        """Start on everything that the pipeline asks for now."""
        for request in self._pipeline.take_requests():
            if isinstance(request, NeedReplay):
                self._replay_due.set()
            elif isinstance(request, NeedSnapshot):
                if request.market_id not in self._fetching:
                    self._fetching.add(request.market_id)
                    self._tasks.create_task(self._fetch_book(request))
            elif request.market_id not in self._waiting:
                self._waiting.add(request.market_id)
                self._tasks.create_task(self._resubscribe(request))

    async def _fetch_book(self, request: NeedSnapshot) -> None:
        """Fetch a market's book until one joins."""
        market_id = request.market_id
        height = request.height
        backoff = Backoff(base_s=0.1, cap_s=5.0)
        try:
            while self._pipeline.wants_snapshot(market_id):
                market = self._pipeline.markets[market_id]
                try:
                    async with self._snapshot_slots:
                        await self._snapshot_pace.turn()
                        snapshot = await self._snapshots.fetch(market, height)
                    self._pipeline.join(snapshot, time.time_ns())
                    self._settle()
                except SourceError as error:
                    log.info("%s; trying again", error)
                if not self._pipeline.wants_snapshot(market_id):
                    break
                if backoff.attempt > 2:
                    # The node has that height no more, or it will not join: the newest must do.
                    height = 0
                await asyncio.sleep(0.05 + backoff.next_s())
        finally:
            self._fetching.discard(market_id)

    async def _resubscribe(self, request: NeedSubscription) -> None:
        """Make one market's subscription anew, more and more slowly."""
        backoff = self._backoffs.setdefault(request.market_id, Backoff())
        await asyncio.sleep(backoff.next_s())
        self._waiting.discard(request.market_id)
        self._subscribe_anew(request.market_id)

    async def replay_lost(self) -> None:
        """Fetch lost blocks in order, a few at once, whenever there are any; never returns."""
        while True:
            await self._replay_due.wait()
            self._replay_due.clear()
            while heights := self._pipeline.due_replays(self._limits.replay_concurrency):
                if self._pusher.stuck:
                    # The aggregator does not even take what we have.
                    await asyncio.sleep(0.2)
                    continue
                async with asyncio.TaskGroup() as tasks:
                    for height in heights:
                        tasks.create_task(self._replay_block(height))

    async def _replay_block(self, height: int) -> None:
        await self._replay_pace.turn()
        block = await self._replayer.fetch(height)
        self._pipeline.replay(height, block, time.time_ns())
        self._settle()

    @property
    def waiting(self) -> int:
        """Books and subscriptions that are being asked for."""
        return len(self._fetching) + len(self._waiting)

    async def aclose(self) -> None:
        """Close the connections that were made for fetching."""
        await self._snapshots.close()
        await self._replayer.aclose()


def _replay_sources(
    config: ShardConfig, markets: Mapping[str, Market], access: Access
) -> list[ReplaySource]:
    """Make everything that lost blocks can be had from, the best first."""
    found = config.endpoints
    extras = not EXTRAS.isdisjoint(config.channels)
    sources: list[ReplaySource] = [
        RpcReplay(Rpc(url, access), with_extras=extras) for url in found.rpc
    ]
    sources += [EventProviderReplay(at, access, with_extras=extras) for at in found.events]
    if found.indexer:
        # Of no use to anyone else.
        from shards.adapters.injective_indexer.replay import IndexerReplay

        sources += [
            IndexerReplay(at, markets, Rpc(found.rpc[0], access), access) for at in found.indexer
        ]
    return sources
