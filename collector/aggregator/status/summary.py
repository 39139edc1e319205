"""The summary: one JSON object with everything that the aggregator knows, its fields a contract."""

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from collector.aggregator.aggregator import Aggregator
from collector.aggregator.state.coverage import Glance, completeness, coverage as covered
from collector.aggregator.state.saved import Saving
from collector.aggregator.telemetry.latency_summary import Budget, latency_us
from collector.aggregator.telemetry.process_table import ProcessRow
from collector.settings.parts import BUDGET
from collector.settings.version import __version__
from shards.net.token_bucket import usage
from shards.protocol.chain import Mark
from shards.protocol.control import Report
from shards.protocol.histograms import Histogram, ShardStats, Vitals
from shards.protocol.settings import Endpoints
from shards.protocol.text import without_secrets
from shards.runtime.loop_monitor import Watched


def summary(
    aggregator: Aggregator, processes: Iterable[ProcessRow], watched: Watched, now: float
) -> dict[str, Any]:
    """Build the summary (docs/operations.md describes each field)."""
    coverage = aggregator.coverage
    counts, blocks = coverage.counts(now), coverage.blocks()
    totals = {"trades": 0, "book_updates": 0}
    for row in aggregator.topics.counts().values():
        totals["trades"] += row["trades"]
        totals["book_updates"] += row["book_updates"]
    reports = [
        session.report for session in aggregator.sessions.values() if session.report is not None
    ]
    stats = {
        n: session.report.stats for n, session in aggregator.sessions.items() if session.report
    }
    budget = aggregator.telemetry.budgets.of(aggregator.telemetry.latencies, stats, now)
    return {
        "markets": {
            "requested": sum(counts.values()),
            "inactive": counts.get("inactive", 0),
            "live": counts.get("live", 0),
            "states": counts,
            "moving": len(aggregator.handover.unsettled()),
        },
        "chain_feed": coverage.chain_feed(now),
        "coverage": {"now": covered(counts), "mean": coverage.mean},
        "completeness": completeness(blocks),
        "blocks": blocks | {"head": coverage.head, "provable": coverage.provable},
        "block_time_s": max((report.block_time_s for report in reports), default=0.0),
        "halted": bool(reports) and all(report.halted for report in reports),
        "chain": _chain(aggregator, reports),
        "holes": coverage.holes(),
        "trade_proof": aggregator.proof.summary(),
        "events": totals,
        "gaps": coverage.gaps(),
        "frames": {
            "published": aggregator.publisher.published,
            "dropped": sum(report.dropped for report in reports),
            "duplicates": aggregator.forwarder.duplicates,
            "fenced": aggregator.forwarder.fenced,
            "lost": sum(session.lost for session in aggregator.sessions.values()),
        },
        "requests": msgspec.to_builtins(usage(Path(aggregator.run.config.folder) / BUDGET)),
        "latency_us": budget.total,
        "channels": budget.channels,
        "collected": list(aggregator.run.config.channels),
        "clock": aggregator.telemetry.latencies.clock.summary(),
        "processes": _processes(processes, vitals(aggregator, watched)),
        "shards": _shards(aggregator, budget),
        "endpoints": _without_secrets(aggregator.run.config.endpoints),
        "publisher_epoch": aggregator.run.config.epoch,
        "web": aggregator.run.config.web or None,
        "admin": aggregator.run.config.admin or None,
        "state": _state(aggregator.run.saving, now),
        "recorder": aggregator.telemetry.recorder,
        "version": __version__,
    }


def _state(saving: Saving, now: float) -> dict[str, Any]:
    return {
        "folder": saving.folder or None,
        "saved_s": round(max(0.0, now - saving.saved_at), 3),
        "error": saving.error or None,
        "taken_up": msgspec.to_builtins(saving.taken_up),
    }


def _chain(aggregator: Aggregator, reports: Iterable[Report]) -> dict[str, Any]:
    """Describe which chain it is, what became of those before, and who has it."""
    chain = aggregator.run.chain
    newest = chain.marks[-1] if chain.marks else Mark(0, "", 0)
    nodes = {node.endpoint: node for report in reports for node in report.nodes}
    return {
        "id": chain.id,
        "generation": chain.generation,
        "height": newest.height,
        "hash": newest.hash,
        "former": aggregator.run.former,
        "nodes": [
            {"endpoint": n.endpoint, "height": n.height, "fit": n.fit, "reason": n.reason}
            for n in nodes.values()
        ],
    }


def vitals(aggregator: Aggregator, watched: Watched) -> dict[str, Vitals]:
    """Return the vitals of the processes that measure them, by name."""
    shards = {
        f"shard {number}": session.report.stats.vitals
        for number, session in aggregator.sessions.items()
        if session.report is not None
    }
    return {"aggregator": watched.vitals} | shards


def _processes(
    processes: Iterable[ProcessRow], measured: Mapping[str, Vitals]
) -> list[dict[str, Any]]:
    rows = []
    for process in processes:
        row = {"name": process.name, "pid": process.pid, "restarts": process.restarts}
        row |= msgspec.structs.asdict(process.use)
        found = measured.get(process.name)
        if found is not None:
            row |= {"lag_us": latency_us(found.lag), "gc_pause_us": latency_us(found.gc_pause)}
        rows.append(row)
    return rows


def _shards(aggregator: Aggregator, budget: Budget) -> list[dict[str, Any]]:
    rows = []
    for number, session in sorted(aggregator.sessions.items()):
        report = session.report
        stats = report.stats if report else ShardStats()
        rows.append(
            {
                "shard": number,
                "epoch": session.epoch,
                "markets": len(report.markets) if report else 0,
                "blocks": report.head if report else 0,
                "frames": session.frames,
                "lost": session.lost,
                "dropped": report.dropped if report else 0,
                "payloads": report.payloads if report else 0,
                "connects": report.connects if report else 0,
                "backlog_bytes": report.backlog_bytes if report else 0,
                "lag_us": report.lag_us if report else 0.0,
                "held_blocks": stats.held_blocks,
                "requests": stats.requests,
                "batch_frames": _sizes(stats.batch_frames),
                "latency_us": budget.shards.get(number, {}),
                "endpoints": [
                    {
                        "endpoint": e.endpoint,
                        "breaker": e.breaker,
                        "reason": e.reason,
                        "in_use": e.in_use,
                    }
                    for e in (report.endpoints if report else ())
                ],
            }
        )
    return rows


def _sizes(histogram: Histogram) -> dict[str, float]:
    p50, p99 = histogram.quantiles((0.5, 0.99))
    mean = histogram.total / histogram.number if histogram.number else 0.0
    return {"mean": round(mean, 2), "p50": p50, "p99": p99, "max": histogram.maximum}


def grid(aggregator: Aggregator, now: float) -> list[Glance]:
    """Say what can be seen of every market at a glance: a fifth of what `markets` costs."""
    return aggregator.coverage.glance(now, aggregator.topics.events())


def markets(
    aggregator: Aggregator, now: float, symbols: Container[str] | None = None
) -> list[dict[str, Any]]:
    """Describe every market, or those: identity, state, height and counts."""
    coverage, counts = aggregator.coverage, aggregator.topics.counts()
    reports = [
        session.report for session in aggregator.sessions.values() if session.report is not None
    ]
    block_time_s = max((report.block_time_s for report in reports), default=0.0)
    extra = {
        market_id: counts.get(market_id, {})
        | aggregator.telemetry.activity.row(market_id, now, block_time_s)
        for market_id in coverage.states
        if symbols is None or coverage.symbol(market_id) in symbols
    }
    return coverage.detail(now, extra, symbols)


def _without_secrets(endpoints: Endpoints) -> dict[str, Any]:
    """Return the network's endpoints as anybody may see them."""
    found: dict[str, Any] = msgspec.to_builtins(endpoints)
    return {
        name: [without_secrets(url) for url in value] if isinstance(value, tuple | list) else value
        for name, value in found.items()
    }
