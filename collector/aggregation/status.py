"""The summary: one JSON object with everything that the aggregator knows, its fields a contract."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from collector import __version__
from collector.aggregation.aggregator import Aggregator
from collector.aggregation.latency import Latencies, merged
from collector.aggregation.processes import ProcessRow
from collector.config import BUDGET
from shards.reports import Report
from shards.sources.bucket import usage
from shards.stats import Histogram, ShardStats, Vitals
from shards.vitals import Watched


def summary(
    aggregator: Aggregator, processes: Iterable[ProcessRow], watched: Watched, now: float
) -> dict[str, Any]:
    """Build the summary (docs/operations.md describes each field)."""
    coverage = aggregator.coverage
    counts = coverage.counts(now)
    totals = {"trades": 0, "book_updates": 0}
    for row in aggregator.counts().values():
        totals["trades"] += row["trades"]
        totals["book_updates"] += row["book_updates"]
    reports = [link.report for link in aggregator.links.values() if link.report is not None]
    return {
        "markets": {
            "requested": sum(counts.values()),
            "inactive": counts.get("inactive", 0),
            "live": counts.get("live", 0),
            "states": counts,
        },
        "chain_feed": coverage.chain_feed(now),
        "coverage": {"now": coverage.coverage(now), "mean": coverage.mean},
        "completeness": coverage.completeness(),
        "blocks": coverage.blocks() | {"head": coverage.head},
        "block_time_s": max((report.block_time_s for report in reports), default=0.0),
        "halted": bool(reports) and all(report.halted for report in reports),
        "holes": coverage.holes(),
        "trade_proof": aggregator.proof.summary(),
        "events": totals,
        "gaps": coverage.gaps(),
        "frames": {
            "published": aggregator.published,
            "dropped": sum(report.dropped for report in reports),
            "duplicates": aggregator.duplicates,
            "fenced": aggregator.fenced,
            "lost": sum(link.lost for link in aggregator.links.values()),
        },
        "requests": msgspec.to_builtins(usage(Path(aggregator.config.folder) / BUDGET)),
        "latency_us": _hops(aggregator.latencies, reports),
        "channels": {
            channel: {"latency_us": {"recv_to_aggregator": _latency(histogram)}}
            for channel, histogram in aggregator.latencies.recv_to_aggregator().items()
        },
        "clock": aggregator.latencies.clock.summary(),
        "processes": _processes(processes, _vitals(aggregator, watched)),
        "shards": _shards(aggregator),
        "endpoints": msgspec.to_builtins(aggregator.config.endpoints),
        "publisher_epoch": aggregator.config.epoch,
        "web": aggregator.config.web or None,
        "version": __version__,
    }


def _latency(histogram: Histogram) -> dict[str, float]:
    return {"count": histogram.number} | histogram.summary_us()


def _hops(latencies: Latencies, reports: Sequence[Report]) -> dict[str, Any]:
    """Return the budget, hop by hop in the order of a frame's way, over all shards."""
    stats = [report.stats for report in reports]
    return {
        "block_to_recv": _latency(latencies.hop("block_to_recv")),
        "recv_to_decoded": _latency(merged(found.recv_to_decoded for found in stats)),
        "decoded_to_pushed": _latency(merged(found.decoded_to_pushed for found in stats)),
        "push_to_aggregator": _latency(latencies.hop("push_to_aggregator")),
        "aggregator_to_published": _latency(latencies.hop("aggregator_to_published")),
        "recv_to_aggregator": _latency(merged(latencies.recv_to_aggregator().values())),
        "block_span": _latency(latencies.block_span),
    }


def _shard_hops(latencies: Latencies, shard: int, stats: ShardStats) -> dict[str, Any]:
    """Return the budget of one shard."""
    hops = latencies.shards.get(shard)
    if hops is None:
        return {}
    return {
        "block_to_recv": _latency(hops.block_to_recv),
        "recv_to_decoded": _latency(stats.recv_to_decoded),
        "decoded_to_pushed": _latency(stats.decoded_to_pushed),
        "push_to_aggregator": _latency(hops.push_to_aggregator),
        "aggregator_to_published": _latency(hops.aggregator_to_published),
        "recv_to_aggregator": _latency(merged(latencies.recv_to_aggregator(shard).values())),
    }


def _vitals(aggregator: Aggregator, watched: Watched) -> dict[str, Vitals]:
    """Return the vitals of the processes that measure them, by name."""
    shards = {
        f"shard {number}": link.report.stats.vitals
        for number, link in aggregator.links.items()
        if link.report is not None
    }
    return {"aggregator": watched.vitals} | shards


def _processes(
    processes: Iterable[ProcessRow], vitals: Mapping[str, Vitals]
) -> list[dict[str, Any]]:
    rows = []
    for process in processes:
        row = {"name": process.name, "pid": process.pid, "restarts": process.restarts}
        row |= msgspec.structs.asdict(process.use)
        found = vitals.get(process.name)
        if found is not None:
            row |= {"lag_us": _latency(found.lag), "gc_pause_us": _latency(found.gc_pause)}
        rows.append(row)
    return rows


def _shards(aggregator: Aggregator) -> list[dict[str, Any]]:
    rows = []
    for number, link in sorted(aggregator.links.items()):
        report = link.report
        stats = report.stats if report else ShardStats()
        rows.append(
            {
                "shard": number,
                "epoch": link.epoch,
                "markets": len(report.markets) if report else 0,
                "blocks": report.head if report else 0,
                "frames": link.frames,
                "payloads": report.payloads if report else 0,
                "connects": report.connects if report else 0,
                "backlog_bytes": report.backlog_bytes if report else 0,
                "lag_us": report.lag_us if report else 0.0,
                "held_blocks": stats.held_blocks,
                "requests": stats.requests,
                "batch_frames": _sizes(stats.batch_frames),
                "latency_us": _shard_hops(aggregator.latencies, number, stats),
                "endpoints": [
                    {"endpoint": e.endpoint, "breaker": e.breaker, "reason": e.reason}
                    for e in (report.endpoints if report else ())
                ],
            }
        )
    return rows


def _sizes(histogram: Histogram) -> dict[str, float]:
    p50, p99 = histogram.quantiles((0.5, 0.99))
    mean = histogram.total / histogram.number if histogram.number else 0.0
    return {"mean": round(mean, 2), "p50": p50, "p99": p99, "max": histogram.maximum}


def markets(aggregator: Aggregator, now: float) -> list[dict[str, Any]]:
    """Describe every market: identity, state, height and counts."""
    counts = aggregator.counts()
    reports = [link.report for link in aggregator.links.values() if link.report is not None]
    block_time_s = max((report.block_time_s for report in reports), default=0.0)
    extra = {
        market_id: counts.get(market_id, {})
        | aggregator.liveliness.row(market_id, now, block_time_s)
        for market_id in aggregator.coverage.states
    }
    return aggregator.coverage.detail(now, extra)
