"""
The collector's state over time: the last hour per second, the last week per minute.

A point is encoded once and kept as bytes: an hour takes about a megabyte, and an answer costs no
more than copying it. Pure.
"""

from collections import deque
from typing import Any, Final

import msgspec

from collector.aggregator.telemetry.latency import merged
from shards.protocol.histograms import Histogram

SECONDS: Final = 3_600
MINUTES: Final = 7 * 24 * 60

_encode: Final = msgspec.msgpack.Encoder().encode


class Use(msgspec.Struct, gc=False):
    """What one process used."""

    cpu_percent: float
    rss_mb: float


class Latency(msgspec.Struct, gc=False):
    """Latency from receipt to aggregator for one interval, in microseconds; 0 without frames."""

    p50: float
    p99: float

    @classmethod
    def of(cls, histogram: Histogram) -> "Latency":
        """Create it from a histogram."""
        return cls(histogram.quantile(0.5) / 1000, histogram.quantile(0.99) / 1000)


class Point(msgspec.Struct):
    """One interval, beginning at ``ts`` (unix seconds)."""

    ts: int
    coverage: float
    """Mean over the interval."""
    completeness: float
    """Of everything since the start, at the end of the interval."""
    live: int
    """Fewest live markets within the interval."""
    frames_per_s: float
    latency_us: Latency
    processes: dict[str, Use]
    shards: dict[str, Latency]


class Sample(msgspec.Struct):
    """The measurements of one second, before they become a point."""

    ts: int
    coverage: float
    completeness: float
    live: int
    frames_per_s: float
    processes: dict[str, Use]
    latencies: dict[int, Histogram]
    """By shard, of this second alone."""


class _Kept:
    """The newest points of one grain, encoded."""

    def __init__(self, limit: int) -> None:
        self.points: deque[tuple[int, msgspec.Raw]] = deque(maxlen=limit)

    def add(self, point: Point) -> None:
        while self.points and self.points[-1][0] >= point.ts:
            # The clock was set back: discard points in the future.
            self.points.pop()
        self.points.append((point.ts, msgspec.Raw(_encode(point))))

    def since(self, ts: float) -> list[msgspec.Raw]:
        found = []
        for at, encoded in reversed(self.points):
            if at < ts:
                break
            found.append(encoded)
        return found[::-1]


class TimeSeries:
    """Points of both grains."""

    def __init__(self) -> None:
        self._seconds = _Kept(SECONDS)
        self._minutes = _Kept(MINUTES)
        self._minute: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Add one second; the last one of a minute completes the minute's point."""
        if self._minute and self._minute[0].ts // 60 != sample.ts // 60:
            self._minutes.add(_point(self._minute, self._minute[0].ts // 60 * 60))
            self._minute = []
        self._minute.append(sample)
        self._seconds.add(_point([sample], sample.ts))

    def answer(self, grain: str, since: float) -> dict[str, Any]:
        """Return the points from ``since`` (Unix seconds) on."""
        kept, grain_s = (self._seconds, 1) if grain == "second" else (self._minutes, 60)
        return {"grain_s": grain_s, "points": kept.since(since)}


def _point(samples: list[Sample], ts: int) -> Point:
    """Combine the samples of an interval into one point."""
    number, last = len(samples), samples[-1]
    shards: dict[int, Histogram] = {}
    for sample in samples:
        for shard, histogram in sample.latencies.items():
            shards.setdefault(shard, Histogram()).merge(histogram)
    return Point(
        ts=ts,
        coverage=sum(sample.coverage for sample in samples) / number,
        completeness=last.completeness,
        live=min(sample.live for sample in samples),
        frames_per_s=round(sum(sample.frames_per_s for sample in samples) / number, 1),
        latency_us=Latency.of(merged(shards.values())),
        processes={
            name: Use(round(sum(use.cpu_percent for use in uses) / len(uses), 1), uses[-1].rss_mb)
            for name in last.processes
            if (uses := [s.processes[name] for s in samples if name in s.processes])
        },
        shards={str(shard): Latency.of(found) for shard, found in sorted(shards.items())},
    )
