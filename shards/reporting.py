"""Make a shard's report of itself (protocol/control.py)."""

import os
import time
from typing import Any

from shards.core.feed import Feed
from shards.core.pipeline import Pipeline
from shards.net.endpoints import EndpointPool
from shards.net.nodes import Nodes
from shards.protocol.chain import Chain
from shards.protocol.control import EndpointReport, MarketReport, Report
from shards.protocol.histograms import ShardStats
from shards.protocol.settings import ShardConfig
from shards.protocol.text import without_secrets
from shards.push import Pusher


def make_report(
    config: ShardConfig,
    pipeline: Pipeline[Any],
    pusher: Pusher,
    endpoints: EndpointPool,
    *,
    fresh: bool,
    halted: bool,
    lag_s: float,
    stats: ShardStats,
    assignment: int,
    nodes: Nodes | None,
) -> Report:
    """Describe the shard as it is now."""
    return Report(
        shard=config.shard,
        epoch=config.epoch,
        pid=os.getpid(),
        ts=time.time_ns(),
        fresh=fresh,
        head=pipeline.head,
        head_ts_event=pipeline.head_ts_event,
        block_time_s=pipeline.block_time_s,
        halted=halted,
        markets=[] if fresh else [_market(feed) for feed in pipeline.feeds.values()],
        endpoints=[
            EndpointReport(
                without_secrets(state.endpoint), state.breaker, state.reason, state.in_use
            )
            for state in endpoints.states()
        ],
        connects=endpoints.attempts,
        payloads=pipeline.payloads,
        frames=pusher.frames,
        kept=pusher.kept,
        kept_from=pusher.kept_from,
        dropped=pusher.dropped,
        backlog_bytes=pusher.backlog_bytes,
        lag_us=lag_s * 1e6,
        stats=stats,
        assignment=assignment,
        chain=Chain() if nodes is None else nodes.replacement or nodes.chain,
        replaces=nodes.chain.generation if nodes and nodes.replacement else -1,
        nodes=[] if nodes is None else nodes.reports(),
    )


def _market(feed: Feed) -> MarketReport:
    ledger, stats = feed.ledger, feed.stats
    return MarketReport(
        feed.market_id,
        feed.state.value,
        feed.reason,
        ledger.first,
        ledger.last,
        list(ledger.replayed),
        list(ledger.missing),
        stats.trades,
        stats.book_updates,
        stats.duplicates,
        stats.resyncs,
        ledger.audited_to,
        feed.sync.book.sequence if feed.sync.in_sync else -1,
    )
