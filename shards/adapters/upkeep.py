"""
What runs beside the data path, for the two kinds of sources: of blocks, and of the indexer.

A source of blocks has a pipeline whose clock they are, a fetcher and a watch; the indexer
tells no blocks, and has a pipeline and tasks of its own. Both offer the same to the worker.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from shards.adapters.injective_chain.liveness import Watch
from shards.adapters.injective_chain.recovery import Fetcher
from shards.adapters.injective_indexer.pipeline import IndexerPipeline
from shards.adapters.interface import BlockSource, Source
from shards.core.pipeline import Pipeline
from shards.net.access import Access
from shards.protocol.ledger import MarketLedger
from shards.protocol.settings import Market, ShardConfig
from shards.push import Pusher

AnyPipeline: TypeAlias = Pipeline | IndexerPipeline


class Upkeep(Protocol):
    """Fetching, watching, resubscribing."""

    @property
    def halted(self) -> bool:
        """Whether the chain itself makes no blocks."""

    @property
    def waiting(self) -> int:
        """Books and subscriptions that are being asked for now."""

    def see_to(self) -> None:
        """Start on everything that the pipeline asks for now."""

    async def run(self) -> None:
        """Keep at it; never returns."""

    def flush(self) -> None:
        """Let the pipeline say what it holds back: the end has come."""

    async def aclose(self) -> None:
        """Close the connections that were made."""


class BlockUpkeep:
    """The fetcher and the watch of a shard whose source tells blocks."""

    def __init__(self, fetcher: Fetcher, watch: Watch) -> None:
        self._fetcher = fetcher
        self._watch = watch

    @property
    def halted(self) -> bool:
        """Whether the chain itself makes no blocks."""
        return self._watch.halted

    @property
    def waiting(self) -> int:
        """Books and subscriptions that are being asked for now."""
        return self._fetcher.waiting

    def see_to(self) -> None:
        """Start on everything that the pipeline asks for now."""
        self._fetcher.see_to()

    async def run(self) -> None:
        """Replay and watch; never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fetcher.replay_lost())
            tasks.create_task(self._watch.run())

    def flush(self) -> None:
        """Held blocks wait for those before them; they come again after the next start."""

    async def aclose(self) -> None:
        """Close the connections of the fetcher and the watch."""
        self._watch.close()
        await self._fetcher.aclose()


def new_pipeline(
    config: ShardConfig,
    source: Source,
    markets: Sequence[Market],
    ledgers: Mapping[str, MarketLedger],
) -> AnyPipeline:
    """Make the pipeline that fits a source."""
    if isinstance(source, BlockSource):
        return Pipeline(
            markets,
            source=config.source,
            decoder=source.decode,
            limits=config.limits,
            channels=config.channels,
            ledgers=dict(ledgers),
        )
    from shards.adapters.messages import INJECTIVE

    return IndexerPipeline(
        markets,
        messages={
            name == "spot": INJECTIVE.package(f"injective_{name}_exchange_rpc")
            for name in ("spot", "derivative")
        },
        channels=config.channels,
        limits=config.limits,
        ledgers=ledgers,
    )


def open_upkeep(
    config: ShardConfig,
    pipeline: AnyPipeline,
    pusher: Pusher,
    access: Access,
    source: Source,
    *,
    tasks: asyncio.TaskGroup,
    settle: Callable[[], None],
) -> Upkeep:
    """Make what a pipeline needs beside it."""
    if isinstance(pipeline, IndexerPipeline):
        # Of no use to the other sources.
        from shards.adapters.injective_indexer.reconciliation import IndexerUpkeep

        return IndexerUpkeep(
            pipeline,
            pusher,
            access,
            source,
            config.limits,
            config.channels,
            tasks=tasks,
            settle=settle,
            first=config.endpoints.indexer[0],
        )
    fetcher = Fetcher(
        config,
        pipeline,
        pusher,
        access,
        tasks=tasks,
        settle=settle,
        resubscribe=source.resubscribe,
    )
    watch = Watch(config, pipeline, pusher, source, access, settle=settle)
    return BlockUpkeep(fetcher, watch)
