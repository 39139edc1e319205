"""
The data for metrics: the summary, the histograms behind it, and each market's counts.

The aggregator only provides the numbers; collector/http/metrics.py formats them.
"""

from collections.abc import Iterable

import msgspec

from collector.aggregator.aggregator import Aggregator
from collector.aggregator.status import summary as status
from collector.aggregator.telemetry.activity_meter import Counts
from collector.aggregator.telemetry.latency_summary import shard_hops
from collector.aggregator.telemetry.process_table import ProcessRow
from collector.client.summary import Summary
from shards.protocol.histograms import Histogram, Vitals
from shards.runtime.loop_monitor import LoopMonitor


class ShardMeasures(msgspec.Struct):
    """One shard's histograms."""

    hops: dict[str, Histogram]
    channels: dict[str, Histogram]
    """Latency from receipt to the aggregator, by channel."""
    batch_frames: Histogram


class MarketMeasures(msgspec.Struct):
    """One market's state and counts."""

    symbol: str
    state: str
    height: int
    missing: int
    trades: int
    book_updates: int
    gaps: int
    resyncs: int


class Measures(msgspec.Struct):
    """All measurements at one instant."""

    summary: Summary
    shards: dict[int, ShardMeasures]
    block_span: Histogram
    vitals: dict[str, Vitals]
    """By process."""
    journal: dict[str, int]
    """Journal entries by kind."""
    markets: list[MarketMeasures]


def measure(
    aggregator: Aggregator,
    processes: Iterable[ProcessRow],
    watched: LoopMonitor,
    now: float,
    markets: int,
) -> Measures:
    """Collect everything, including the counts of up to this many markets."""
    return Measures(
        summary=status.summary(aggregator, processes, watched, now),
        shards=_shards(aggregator),
        block_span=aggregator.telemetry.latencies.block_span,
        vitals=status.vitals(aggregator, watched),
        journal=dict(aggregator.telemetry.journal.counts),
        markets=_markets(aggregator, now, markets),
    )


def _shards(aggregator: Aggregator) -> dict[int, ShardMeasures]:
    latencies = aggregator.telemetry.latencies
    found = {}
    for number, session in sorted(aggregator.sessions.items()):
        if session.report is not None:
            stats = session.report.stats
            hops = shard_hops(latencies, number, stats)
            channels = latencies.recv_to_aggregator(number) if hops else {}
            found[number] = ShardMeasures(hops, channels, stats.batch_frames)
    return found


def _markets(aggregator: Aggregator, now: float, limit: int) -> list[MarketMeasures]:
    """Describe the first markets by symbol, so that the same ones keep their series."""
    coverage = aggregator.coverage
    counts = aggregator.topics.counts()
    symbols = sorted((coverage.symbol(market_id), market_id) for market_id in coverage.states)
    found = []
    for symbol, market_id in symbols[:limit]:
        state = coverage.states[market_id]
        row = counts.get(market_id, Counts())
        found.append(
            MarketMeasures(
                symbol,
                coverage.state_of(state, now),
                state.last,
                coverage.missing(state),
                row.trades,
                row.book_updates,
                state.gaps.opened,
                state.earlier_resyncs + state.resyncs,
            )
        )
    return found
