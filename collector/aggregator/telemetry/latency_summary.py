"""
Latency figures for the summary: over all shards, per shard, per channel.

Computed at most once a second, because dozens of histograms take milliseconds, during which frames
wait, and there may be several readers. Pure.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from collector.aggregator.telemetry.latency import Latencies, merged
from collector.client.performance import ChannelLatency, Hops, Latency
from shards.protocol.histograms import Histogram, ShardStats

_FRESH_S: Final = 1.0


class LatencySummary(msgspec.Struct):
    """The figures, by hop."""

    total: Hops = {}
    channels: dict[str, ChannelLatency] = {}
    shards: dict[int, Hops] = {}


class LatencySummaries:
    """Caches the newest figures."""

    def __init__(self) -> None:
        self._made_at = float("-inf")
        self._budget = LatencySummary()

    def of(
        self, latencies: Latencies, stats: Mapping[int, ShardStats], now: float
    ) -> LatencySummary:
        """Return the current figures, at most a second old (``now`` is monotonic seconds)."""
        if now - self._made_at >= _FRESH_S:
            self._made_at = now
            self._budget = _make(latencies, stats)
        return self._budget


def shard_hops(latencies: Latencies, shard: int, stats: ShardStats) -> dict[str, Histogram]:
    """Return one shard's hops in path order; empty before its first frame."""
    hops = latencies.shards.get(shard)
    if hops is None:
        return {}
    return {
        "block_to_recv": hops.block_to_recv,
        "recv_to_decoded": stats.recv_to_decoded,
        "decoded_to_pushed": stats.decoded_to_pushed,
        "push_to_aggregator": hops.push_to_aggregator,
        "aggregator_to_published": hops.aggregator_to_published,
    }


def _make(latencies: Latencies, stats: Mapping[int, ShardStats]) -> LatencySummary:
    channels = latencies.recv_to_aggregator()
    total = {
        "block_to_recv": latencies.hop("block_to_recv"),
        "recv_to_decoded": merged(found.recv_to_decoded for found in stats.values()),
        "decoded_to_pushed": merged(found.decoded_to_pushed for found in stats.values()),
        "push_to_aggregator": latencies.hop("push_to_aggregator"),
        "aggregator_to_published": latencies.hop("aggregator_to_published"),
        "recv_to_aggregator": merged(channels.values()),
        "block_span": latencies.block_span,
    }
    shards = {}
    for shard, found in stats.items():
        hops = shard_hops(latencies, shard, found)
        if hops:
            hops["recv_to_aggregator"] = merged(latencies.recv_to_aggregator(shard).values())
        shards[shard] = _figures(hops)
    return LatencySummary(
        _figures(total),
        {
            channel: ChannelLatency(latency_us=_figures({"recv_to_aggregator": histogram}))
            for channel, histogram in channels.items()
        },
        shards,
    )


def _figures(hops: Mapping[str, Histogram]) -> Hops:
    return {hop: latency_us(histogram) for hop, histogram in hops.items()}


def latency_us(histogram: Histogram) -> Latency:
    """Return a histogram's count and quantiles."""
    return Latency(count=histogram.number, **histogram.summary_us())
