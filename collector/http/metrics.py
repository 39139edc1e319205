"""
Metrics by Prometheus' conventions: base units, ``_total`` for counters, histograms as such.

Built from the aggregator's measures at every scrape, so nothing is counted twice and nothing
drifts. docs/reference/metrics.md lists them all. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from collector.access.report import AccessReport
from collector.aggregator.status.metrics_snapshot import MarketMeasures, Measures, ShardMeasures
from collector.client.performance import Shard
from collector.client.summary import Node, Recorder, Summary
from collector.http.family_builders import (
    SIZES,
    SIZES_LE,
    buckets,
    gauge,
    histograms,
    labelled,
    seconds,
)
from collector.http.path_metrics import paths
from collector.http.process_metrics import process_families
from shards.net.token_bucket import Usage

_STATES: Final = ("pending", "syncing", "live", "stale", "failed", "inactive")
_KINDS: Final = ("state", "gap", "restart", "breaker", "halt", "connect", "move", "listing", "divergence")  # fmt: skip


def up(answered: bool) -> Metric:
    """Create the metric that tells whether the aggregator answered."""
    text = "Whether the aggregator answered this scrape; if not, there are no other metrics."
    return GaugeMetricFamily("collector_aggregator_up", text, int(answered))


def closed_connections(closed: Mapping[str, int]) -> Metric:
    """Create the metric of HTTP connections closed at a bound, which the HTTP server counts itself."""
    return labelled(
        CounterMetricFamily,
        "http_closed_connections",
        "HTTP connections closed at a bound (docs/security.md).",
        ["reason"],
        [((reason,), closed.get(reason, 0)) for reason in ("connections", "unfinished", "slow")],
    )


def families(measures: Measures) -> Iterator[Metric]:
    """Yield every family of metrics."""
    yield up(True)
    yield from _whole(measures.summary)
    yield from _trouble(measures)
    yield from _shards(measures.summary.shards)
    yield _nodes(measures.summary.chain.nodes)
    yield from paths(measures.summary.paths)
    yield from _latencies(measures)
    yield from process_families(measures)
    yield from _requests(measures.summary.requests)
    yield from _access(measures.summary.access)
    yield from _markets(measures.markets)


_RECORDED: Final = {
    "sealed_height": ("sealed", "Height through which everything is in Parquet files."),
    "complete_height": ("complete", "Height through which everything is in the journal or sealed."),
    "lost_heights": ("to_fetch", "Missed heights that are being backfilled."),
    "gone_heights": ("gone", "Heights that no node has any more."),
    "journal_bytes": ("journal_bytes", "Size of the journal's open segment."),
}


def _recorder(recorder: Recorder | None) -> Iterable[Metric]:
    """Yield the recorder's metrics; nothing without `start --record`."""
    if recorder is None:
        return
    is_up = recorder.state == "recording"
    yield gauge("recorder_up", "Whether everything collected is being recorded.", int(is_up))
    for name, (field, text) in _RECORDED.items():
        yield gauge(f"recorder_{name}", text, float(getattr(recorder, field) or 0))


def _whole(summary: Summary) -> Iterator[Metric]:
    """Yield the metrics of the whole collector."""
    info = {"version": summary.version}
    yield InfoMetricFamily("collector", "The program.", value=info)
    coverage, clock = summary.coverage, summary.clock
    yield gauge("coverage_ratio", "Share of the collected markets that are live.", coverage.now)
    yield gauge(
        "coverage_mean_ratio", "The same, averaged over the time since the start.", coverage.mean
    )
    if summary.blocks.provable:
        yield gauge(
            "completeness_ratio",
            "Share of the due blocks that were received or replayed, over all markets.",
            summary.completeness,
        )
    states = summary.markets.states
    yield labelled(
        GaugeMetricFamily,
        "markets",
        "Markets by state.",
        ["state"],
        [((state,), states.get(state, 0)) for state in _STATES],
    )
    blocks = summary.blocks
    yield gauge("head_height", "Newest height of the chain.", blocks.head)
    yield gauge("block_time_seconds", "Observed time between blocks.", summary.block_time_s)
    yield gauge("chain_halted", "Whether the chain makes no blocks.", int(summary.halted))
    yield from _recorder(summary.recorder)
    yield labelled(
        GaugeMetricFamily,
        "ledger_blocks",
        "Blocks due, counted per market, by how they were received. Missing ones may still "
        "be replayed.",
        ["status"],
        [((status,), getattr(blocks, status)) for status in ("received", "replayed", "missing")],
    )
    state = summary.state
    yield gauge("ledger_saved", "Whether the collector's state can be saved.", int(not state.error))
    yield gauge("ledger_saved_age_seconds", "Age of the saved state.", state.saved_s)
    yield gauge("clock_trusted", "Whether block times and our clock agree.", int(clock.trusted))
    yield labelled(
        GaugeMetricFamily,
        "clock_offset_seconds",
        "Latency from block time to our socket, over the last blocks.",
        ["stat"],
        [
            ((stat,), value / 1000)
            for stat, value in msgspec.structs.asdict(clock.offset_ms).items()
        ],
    )


def _trouble(measures: Measures) -> Iterator[Metric]:
    """Yield the metrics of published events and of faults."""
    summary = measures.summary
    yield labelled(
        CounterMetricFamily,
        "events",
        "Published events by kind; both sides of a match count as trades.",
        ["event"],
        [((name,), value) for name, value in msgspec.structs.asdict(summary.events).items()],
    )
    frames = summary.frames
    yield labelled(
        CounterMetricFamily,
        "frames",
        "Frames by what happened to them.",
        ["outcome"],
        [((name,), getattr(frames, name)) for name in ("published", "duplicates", "fenced")],
    )
    gaps, proof = summary.gaps, summary.trade_proof
    yield labelled(
        CounterMetricFamily,
        "gaps",
        "Gaps announced as open or closed.",
        ["state"],
        [((state,), getattr(gaps, state)) for state in ("opened", "closed")],
    )
    yield gauge("gaps_open", "Gaps that are open now.", gaps.open)
    yield labelled(
        CounterMetricFamily,
        "proved_blocks",
        "Blocks whose trade ids were complete or not; not counted if this cannot be proved.",
        ["verdict"],
        [((verdict,), getattr(proof, verdict) or 0) for verdict in ("whole", "holes")],
    )
    yield labelled(
        CounterMetricFamily,
        "journal_entries",
        "State changes by kind.",
        ["kind"],
        [((kind,), measures.journal.get(kind, 0)) for kind in _KINDS],
    )


_OF_SHARDS: Final = (
    (GaugeMetricFamily, "shard_markets", "Markets of the shard.", "markets"),
    (GaugeMetricFamily, "shard_head_height", "Newest height of the shard.", "blocks"),
    (CounterMetricFamily, "shard_frames", "Frames received from the shard.", "frames"),
    (CounterMetricFamily, "shard_lost_frames", "Frames missing in its sequence.", "lost"),
    (CounterMetricFamily, "shard_dropped_frames", "Frames dropped, to be replayed.", "dropped"),
    (CounterMetricFamily, "shard_payloads", "Payloads from the source.", "payloads"),
    (CounterMetricFamily, "shard_connects", "Connection attempts.", "connects"),
    (GaugeMetricFamily, "shard_backlog_bytes", "Bytes of unsent frames.", "backlog_bytes"),
    (GaugeMetricFamily, "shard_held_blocks", "Blocks held until a replay.", "held_blocks"),
    (
        GaugeMetricFamily,
        "shard_pending_requests",
        "Snapshots and subscriptions requested.",
        "requests",
    ),
)


def _shards(shards: Sequence[Shard]) -> Iterator[Metric]:
    for family, name, text, field in _OF_SHARDS:
        rows = [((shard.shard,), getattr(shard, field)) for shard in shards]
        yield labelled(family, name, text, ["shard"], rows)
    yield labelled(
        GaugeMetricFamily,
        "endpoint_breaker_open",
        "Whether the endpoint's circuit breaker is open or half open.",
        ["shard", "endpoint"],
        [
            ((shard.shard, endpoint.endpoint), int(endpoint.breaker != "closed"))
            for shard in shards
            for endpoint in shard.endpoints
        ],
    )


def _nodes(nodes: Sequence[Node]) -> Metric:
    return labelled(
        GaugeMetricFamily,
        "node_fit",
        "Whether an endpoint has our chain, at its head; if not, the cause in a word.",
        ["role", "endpoint", "cause"],
        [((node.role, node.endpoint, node.cause), int(node.fit)) for node in nodes],
    )


def _latencies(measures: Measures) -> Iterator[Metric]:
    hops = histograms("hop_latency_seconds", "Latency of each hop.", ["hop", "shard"])
    frames = histograms(
        "frame_latency_seconds", "From receipt of the payload to publishing.", ["shard", "channel"]
    )
    sizes = histograms("batch_frames", "Frames per batch.", ["shard"])
    for number, shard in measures.shards.items():
        _add_shard(hops, frames, sizes, str(number), shard)
    span = histograms(
        "block_span_seconds", "From a block's first receipt to its last frame published.", []
    )
    seconds(span, [], measures.block_span)
    yield from (hops, frames, sizes, span)


def _add_shard(
    hops: HistogramMetricFamily,
    frames: HistogramMetricFamily,
    sizes: HistogramMetricFamily,
    number: str,
    shard: ShardMeasures,
) -> None:
    for hop, histogram in shard.hops.items():
        seconds(hops, [hop, number], histogram)
    for channel, histogram in shard.channels.items():
        seconds(frames, [number, channel], histogram)
    batches = shard.batch_frames
    counts = buckets(SIZES_LE, batches.below(SIZES), batches.number)
    sizes.add_metric([number], counts, batches.total)


_OF_ACCESS: Final = (
    ("refused_connections", "Refused connections, by reason.", "refused"),
    ("closed_connections", "Connections that were closed by us, by reason.", "closed"),
    ("refused_requests", "Requests that were refused, by reason.", "requests_refused"),
)
_REASONS: Final = {
    "refused": (
        "mechanism", "cryptography", "protocol", "unfinished", "unknown_key", "role",
        "key_connections", "connections", "address", "attempts",
    ),
    "closed": ("revoked", "silent", "slow", "nonsense", "out_of_step", "subscriptions", "size", "requests"),
    "requests_refused": ("rights", "replays", "requests"),
}  # fmt: skip
"""Each has a series from the start, so that its first increase is one."""


def _access(access: AccessReport) -> Iterator[Metric]:
    """Connections and refusals."""
    yield gauge("insecure_addresses", "Addresses open to all.", len(access.insecure))
    yield gauge("keys_required", "Whether readers need a key.", int(access.keys))
    yield gauge("reader_connections", "Connections of readers.", access.connections)
    yield gauge(
        "authorized_keys_read", "Whether the newest authorized keys are in force.",
        int(not access.error),
    )  # fmt: skip
    rows = [((name,), number) for name, number in access.by_key.items()]
    yield labelled(GaugeMetricFamily, "key_connections", "Connections of each key.", ["key"], rows)
    let_in = CounterMetricFamily("collector_accepted_connections", "Connections with a listed key.")
    let_in.add_metric([], access.let_in)
    yield let_in
    for name, text, field in _OF_ACCESS:
        counts: dict[str, int] = getattr(access, field)
        reasons = dict.fromkeys((*_REASONS[field], *counts))
        yield labelled(
            CounterMetricFamily, name, text, ["reason"],
            [((reason,), counts.get(reason, 0)) for reason in reasons],
        )  # fmt: skip


def _requests(rows: Iterable[Usage]) -> Iterator[Metric]:
    labels = ["group", "host"]
    found = [((row.group, row.host), row) for row in rows]
    yield labelled(
        CounterMetricFamily,
        "requests",
        "Queries sent, over all shards.",
        labels,
        [(values, row.made) for values, row in found],
    )
    yield labelled(
        CounterMetricFamily,
        "requests_refused",
        "Queries answered with HTTP 429.",
        labels,
        [(values, row.refused) for values, row in found],
    )
    yield labelled(
        GaugeMetricFamily,
        "requests_wait_seconds",
        "How long the next query would wait for the rate limit.",
        labels,
        [(values, row.wait_s) for values, row in found],
    )


_OF_MARKETS: Final = (
    (GaugeMetricFamily, "market_height", "Height through which it is accounted for.", "height"),
    (GaugeMetricFamily, "market_missing_blocks", "Blocks due but missing.", "missing"),
    (CounterMetricFamily, "market_trades", "Trades published.", "trades"),
    (CounterMetricFamily, "market_book_updates", "Book updates published.", "book_updates"),
    (CounterMetricFamily, "market_gaps", "Gaps opened.", "gaps"),
    (CounterMetricFamily, "market_resyncs", "Snapshots fetched after a gap.", "resyncs"),
)


def _markets(markets: Sequence[MarketMeasures]) -> Iterator[Metric]:
    live = [((market.symbol,), int(market.state == "live")) for market in markets]
    yield labelled(GaugeMetricFamily, "market_live", "Whether it is live.", ["market"], live)
    for family, name, text, field in _OF_MARKETS:
        rows = [((market.symbol,), getattr(market, field)) for market in markets]
        yield labelled(family, name, text, ["market"], rows)
