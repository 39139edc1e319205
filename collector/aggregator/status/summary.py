"""Build the answers to ``status``, ``markets`` and ``grid`` (client/summary.py). Pure."""

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from collector.aggregator.aggregator import Aggregator
from collector.aggregator.state.coverage import Glance, live_share
from collector.aggregator.state.saved import Saving
from collector.aggregator.state.shard_sessions import ShardSession
from collector.aggregator.status.paths import paths
from collector.aggregator.telemetry.latency_summary import latency_us
from collector.aggregator.telemetry.process_table import ProcessRow, Use
from collector.client.market_status import MarketStatus
from collector.client.performance import BatchSizes, Endpoint, Hops, Process, Shard, process_name
from collector.client.summary import (
    Blocks,
    ChainIdentity,
    CoverageNow,
    Events,
    Frames,
    Markets,
    Node,
    SavedState,
    Summary,
)
from collector.settings.parts import BUDGET
from collector.settings.version import __version__
from shards.net.token_bucket import usage
from shards.protocol.chain import Mark
from shards.protocol.control import Report
from shards.protocol.histograms import Histogram, ShardStats, Vitals
from shards.protocol.settings import Endpoints
from shards.protocol.text import without_secrets
from shards.runtime.loop_monitor import LoopMonitor


def summary(
    aggregator: Aggregator, processes: Iterable[ProcessRow], watched: LoopMonitor, now: float
) -> Summary:
    """Build the summary (docs/operations.md describes each field)."""
    run, coverage, telemetry = aggregator.run, aggregator.coverage, aggregator.telemetry
    states, blocks = coverage.counts(now), coverage.blocks()
    reports = _reports(aggregator)
    stats = {number: report.stats for number, report in reports.items()}
    budget = telemetry.budgets.of(telemetry.latencies, stats, now)
    return Summary(
        markets=_markets(states, len(aggregator.handover.unsettled())),
        chain_feed=coverage.chain_feed(now),
        coverage=CoverageNow(now=live_share(states), mean=coverage.mean),
        completeness=blocks.completeness,
        blocks=Blocks(
            **msgspec.structs.asdict(blocks), head=coverage.head, provable=coverage.provable
        ),
        block_time_s=_block_time_s(reports),
        halted=bool(reports) and all(report.halted for report in reports.values()),
        chain=_chain(aggregator, reports.values()),
        holes=coverage.holes(),
        trade_proof=aggregator.proof.summary(),
        events=_events(aggregator),
        gaps=coverage.gaps(),
        frames=_frames(aggregator, reports.values()),
        requests=usage(Path(run.config.folder) / BUDGET),
        latency_us=budget.total,
        channels=budget.channels,
        collected=list(run.config.channels),
        clock=telemetry.latencies.clock.summary(),
        processes=_processes(processes, vitals(aggregator, watched)),
        shards=[
            _shard(number, session, budget.shards.get(number, {}))
            for number, session in sorted(aggregator.sessions.items())
        ],
        endpoints=_without_secrets(run.config.endpoints),
        publisher_epoch=run.config.epoch,
        publish=list(run.config.publish),
        web=run.config.web or None,
        admin=run.config.admin or None,
        admin_remote=run.config.admin_remote or None,
        state=_state(run.saving, now),
        recorder=telemetry.recorder,
        access=telemetry.access,
        version=__version__,
        paths=paths(report.paths for report in reports.values()),
    )


def _reports(aggregator: Aggregator) -> dict[int, Report]:
    """Return each shard's last report."""
    sessions = aggregator.sessions.items()
    return {n: session.report for n, session in sessions if session.report is not None}


def _block_time_s(reports: Mapping[int, Report]) -> float:
    return max((report.block_time_s for report in reports.values()), default=0.0)


def _markets(states: dict[str, int], moving: int) -> Markets:
    return Markets(
        requested=sum(states.values()),
        inactive=states.get("inactive", 0),
        live=states.get("live", 0),
        states=states,
        moving=moving,
    )


def _chain(aggregator: Aggregator, reports: Iterable[Report]) -> ChainIdentity:
    """Describe the chain, former chains, and the nodes that have it."""
    chain = aggregator.run.chain
    newest = chain.marks[-1] if chain.marks else Mark(0, "", 0)
    nodes = {(n.role, n.endpoint): n for report in reports for n in report.nodes}
    return ChainIdentity(
        id=chain.id,
        generation=chain.generation,
        height=newest.height,
        hash=newest.hash,
        former=aggregator.run.former,
        nodes=[
            Node(
                endpoint=n.endpoint,
                height=n.height,
                fit=n.fit,
                reason=n.reason,
                role=n.role,
                cause=n.cause,
            )
            for n in nodes.values()
        ],
    )


def _events(aggregator: Aggregator) -> Events:
    topics, published = aggregator.topics, aggregator.publisher.published
    return Events(
        trades=topics.published("trades", published),
        book_updates=topics.published("book", published),
    )


def _frames(aggregator: Aggregator, reports: Iterable[Report]) -> Frames:
    return Frames(
        published=aggregator.publisher.published,
        dropped=sum(report.dropped for report in reports),
        duplicates=aggregator.forwarder.duplicates,
        fenced=aggregator.forwarder.fenced,
        lost=sum(session.lost for session in aggregator.sessions.values()),
    )


def _state(saving: Saving, now: float) -> SavedState:
    return SavedState(
        folder=saving.folder or None,
        saved_s=round(max(0.0, now - saving.saved_at), 3),
        error=saving.error or None,
        taken_up=saving.taken_up,
    )


def vitals(aggregator: Aggregator, watched: LoopMonitor) -> dict[str, Vitals]:
    """Return the health of the processes that measure it, by name."""
    shards = {
        process_name(number): report.stats.vitals for number, report in _reports(aggregator).items()
    }
    return {"aggregator": watched.vitals} | shards


def _processes(processes: Iterable[ProcessRow], measured: Mapping[str, Vitals]) -> list[Process]:
    rows = []
    for process in processes:
        found = measured.get(process.name)
        rows.append(
            Process(
                name=process.name,
                pid=process.pid,
                restarts=process.restarts,
                **_known(process.use),
                lag_us=UNSET if found is None else latency_us(found.lag),
                gc_pause_us=UNSET if found is None else latency_us(found.gc_pause),
            )
        )
    return rows


def _known(use: Use) -> dict[str, Any]:
    return msgspec.structs.asdict(use) | {"scheduling": use.scheduling or UNSET}


def _shard(number: int, session: ShardSession, hops: Hops) -> Shard:
    report = session.report
    if report is None:
        return Shard(
            shard=number,
            epoch=session.epoch,
            frames=session.frames,
            lost=session.lost,
            batch_frames=_sizes(ShardStats().batch_frames),
            latency_us=hops,
        )
    stats = report.stats
    return Shard(
        shard=number,
        epoch=session.epoch,
        markets=len(session.markets),
        blocks=report.head,
        frames=session.frames,
        lost=session.lost,
        dropped=report.dropped,
        payloads=report.payloads,
        connects=report.connects,
        backlog_bytes=report.backlog_bytes,
        lag_us=report.lag_us,
        held_blocks=stats.held_blocks,
        requests=stats.requests,
        batch_frames=_sizes(stats.batch_frames),
        latency_us=hops,
        endpoints=[
            Endpoint(endpoint=e.endpoint, breaker=e.breaker, reason=e.reason, in_use=e.in_use)
            for e in report.endpoints
        ],
    )


def _sizes(histogram: Histogram) -> BatchSizes:
    p50, p99 = histogram.quantiles((0.5, 0.99))
    mean = histogram.total / histogram.number if histogram.number else 0.0
    return BatchSizes(mean=round(mean, 2), p50=p50, p99=p99, max=histogram.maximum)


def grid(aggregator: Aggregator, now: float) -> list[Glance]:
    """Return a short row for every market, at a fifth of the cost of `markets`."""
    return aggregator.coverage.glance(now, aggregator.topics.events())


def markets(
    aggregator: Aggregator, now: float, symbols: Container[str] | None = None
) -> list[MarketStatus]:
    """Describe all or these markets: identity, state, height and counts."""
    coverage, counts = aggregator.coverage, aggregator.topics.counts()
    block_time_s = _block_time_s(_reports(aggregator))
    rows = []
    for market, state in coverage.shown(symbols):
        count = counts.get(market.market_id)
        activity = aggregator.telemetry.activity.measured(market.market_id, now, block_time_s)
        rows.append(
            MarketStatus(
                market_id=market.market_id,
                ticker=market.ticker,
                symbol=market.symbol,
                type=market.type,
                status=coverage.status(market.market_id),
                shard=max(state.shard, -1),
                state=coverage.state_of(state, now),
                reason=state.reason,
                height=state.last,
                trades=UNSET if count is None else count.trades,
                book_updates=UNSET if count is None else count.book_updates,
                sequence=UNSET if count is None or count.sequence < 0 else count.sequence,
                activity=activity.level,
                changes_per_s=activity.changes_per_s,
                weight=activity.weight,
                volume=activity.volume,
                volume_blocks=activity.volume_blocks,
            )
        )
    return rows


def _without_secrets(endpoints: Endpoints) -> Endpoints:
    """Return the network's endpoints in publishable form."""
    shown = {
        name: tuple(without_secrets(url) for url in urls)
        for name in endpoints.__struct_fields__
        if isinstance(urls := getattr(endpoints, name), tuple)
    }
    others = {
        name: tuple(without_secrets(url) for url in urls) for name, urls in endpoints.others.items()
    }
    return msgspec.structs.replace(endpoints, **shown, others=others)
