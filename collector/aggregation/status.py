"""The summary: one JSON object with everything that the aggregator knows, its fields a contract."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from collector import __version__
from collector.aggregation.aggregator import Aggregator
from collector.aggregation.processes import ProcessUse
from collector.config import BUDGET
from shards.sources.bucket import usage
from shards.stats import Histogram


def summary(aggregator: Aggregator, processes: Iterable[ProcessUse], now: float) -> dict[str, Any]:
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
            "requested": len(coverage.states),
            "inactive": counts.get("inactive", 0),
            "live": counts.get("live", 0),
            "states": counts,
        },
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
        "latency_us": {
            "recv_to_aggregator": _latency(aggregator.recv_to_aggregator),
            "block_to_recv": _latency(aggregator.block_to_recv),
        },
        "processes": [use.row() for use in processes],
        "shards": _shards(aggregator),
        "endpoints": msgspec.to_builtins(aggregator.config.endpoints),
        "publisher_epoch": aggregator.config.epoch,
        "version": __version__,
    }


def _latency(histogram: Histogram) -> dict[str, float]:
    return {"count": histogram.number} | dict(histogram.summary_us())


def _shards(aggregator: Aggregator) -> list[dict[str, Any]]:
    rows = []
    for number, link in sorted(aggregator.links.items()):
        report = link.report
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
                "endpoints": [
                    {"endpoint": e.endpoint, "breaker": e.breaker, "reason": e.reason}
                    for e in (report.endpoints if report else ())
                ],
            }
        )
    return rows


def markets(aggregator: Aggregator, now: float) -> list[dict[str, Any]]:
    """Describe every market: identity, state, height and counts."""
    return aggregator.coverage.detail(now, aggregator.counts())
