"""
Build a shard's report (protocol/control.py). Pure: everything beside the pipeline is passed in.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from shards.core.feed import Feed
from shards.core.pipeline import Pipeline
from shards.protocol.chain import Chain
from shards.protocol.control import EndpointReport, MarketReport, NodeReport, PathReport, Report
from shards.protocol.histograms import ShardStats
from shards.protocol.settings import ShardConfig


class PushedFrames(Protocol):
    """How the shard's frames stand, as its pusher knows (push.py)."""

    frames: int
    dropped: int
    kept_from: int

    @property
    def kept(self) -> int:
        """Frames that wait, or are kept for a new aggregator."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait because the aggregator does not take them."""


class ChainView(Protocol):
    """Which chain the nodes show, as the shard judges it (net/nodes.py)."""

    chain: Chain
    replacement: Chain | None

    def reports(self) -> list[NodeReport]:
        """Describe the nodes."""


def make_report(
    config: ShardConfig,
    pipeline: Pipeline[Any],
    outgoing: PushedFrames,
    *,
    pid: int,
    ts: int,
    fresh: bool,
    halted: bool,
    lag_s: float,
    stats: ShardStats,
    assignment: int,
    endpoints: Sequence[EndpointReport],
    connects: int,
    nodes: ChainView | None,
    paths: Sequence[PathReport] = (),
) -> Report:
    """Describe the shard as it is at ``ts``, ns since 1970; the arguments are the report's fields."""
    return Report(
        shard=config.shard,
        epoch=config.epoch,
        pid=pid,
        ts=ts,
        fresh=fresh,
        head=pipeline.head,
        head_ts_event=pipeline.head_ts_event,
        block_time_s=pipeline.block_time_s,
        halted=halted,
        markets=[] if fresh else [_market(feed) for feed in pipeline.feeds.values()],
        endpoints=list(endpoints),
        connects=connects,
        payloads=pipeline.payloads,
        frames=outgoing.frames,
        kept=outgoing.kept,
        kept_from=outgoing.kept_from,
        dropped=outgoing.dropped,
        backlog_bytes=outgoing.backlog_bytes,
        lag_us=lag_s * 1e6,
        stats=stats,
        assignment=assignment,
        chain=Chain() if nodes is None else nodes.replacement or nodes.chain,
        replaces=nodes.chain.generation if nodes and nodes.replacement else -1,
        nodes=[] if nodes is None else nodes.reports(),
        paths=list(paths),
    )


def _market(feed: Feed) -> MarketReport:
    stats = feed.stats
    report = MarketReport(
        market_id=feed.market_id,
        state=feed.state.value,
        reason=feed.reason,
        trades=stats.trades,
        book_updates=stats.book_updates,
        duplicates=stats.duplicates,
        resyncs=stats.resyncs,
        sequence=feed.sync.book.sequence if feed.sync.in_sync else -1,
    )
    report.copy_ledger(feed.accounted())
    return report
