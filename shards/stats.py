"""
Latency histograms with log-linear buckets: cheap to record, exact to merge.

Values are whole nanoseconds. Each power of two is cut into 16 equal buckets, so a bucket's
upper edge overstates a value by at most 1/16. The edges are the same everywhere: merging
is adding.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

import msgspec

_SUB_BITS = 4
_SUB = 1 << _SUB_BITS
BUCKETS = (64 - _SUB_BITS + 1) * _SUB


def bucket(value: int) -> int:
    """Say which bucket a value falls into; negative ones count as 0."""
    if value < _SUB:
        return max(value, 0)
    shift = value.bit_length() - _SUB_BITS - 1
    return (shift << _SUB_BITS) + (value >> shift)


def upper_edge(index: int) -> int:
    """Return the highest value of a bucket."""
    if index < _SUB:
        return index
    shift = (index >> _SUB_BITS) - 1
    return (((index & (_SUB - 1)) + _SUB + 1) << shift) - 1


class Histogram(msgspec.Struct, array_like=True):
    """Counts of values per bucket, with their number, sum and maximum; travels as it is."""

    counts: dict[int, int] = {}
    number: int = 0
    total: int = 0
    maximum: int = 0

    def record(self, value: int, times: int = 1) -> None:
        """Count a value."""
        if value < _SUB:
            index = max(value, 0)
        else:
            shift = value.bit_length() - 5
            index = (shift << _SUB_BITS) + (value >> shift)
        counts = self.counts
        counts[index] = counts.get(index, 0) + times
        self.number += times
        self.total += value * times
        if value > self.maximum:
            self.maximum = value

    def merge(self, other: "Histogram") -> None:
        """Add another histogram's counts."""
        counts = self.counts
        if counts:
            for index, count in other.counts.items():
                counts[index] = counts.get(index, 0) + count
        else:
            counts.update(other.counts)
        self.number += other.number
        self.total += other.total
        self.maximum = max(self.maximum, other.maximum)

    def _cumulated(self) -> tuple[list[int], list[int]]:
        """Return the buckets in order, and how many values each and those before it hold."""
        # All of it at the speed of C: a summary asks this of dozens of histograms.
        buckets = sorted(self.counts)
        return buckets, list(accumulate(map(self.counts.__getitem__, buckets)))

    def quantile(self, q: float) -> int:
        """Return the upper edge of the bucket that holds the q-quantile; 0 when empty."""
        return self.quantiles((q,))[0]

    def quantiles(self, wanted: Sequence[float]) -> list[int]:
        """Return several quantiles."""
        if not self.number:
            return [0] * len(wanted)
        buckets, cumulated = self._cumulated()
        ranks = [max(1, -int(-q * self.number // 1)) for q in wanted]
        return [
            min(upper_edge(buckets[bisect_left(cumulated, rank)]), self.maximum) for rank in ranks
        ]

    def below(self, limits: Sequence[int]) -> list[int]:
        """
        Count the values below each of these limits.

        Exact where a limit begins a bucket, as every power of two does.
        """
        buckets, cumulated = self._cumulated()
        places = [bisect_left(buckets, bucket(limit)) for limit in limits]
        return [cumulated[place - 1] if place else 0 for place in places]

    def summary_us(self) -> dict[str, float]:
        """Return p50, p90, p99, p999 and max in microseconds."""
        found = [*self.quantiles((0.5, 0.9, 0.99, 0.999)), self.maximum]
        names = ("p50", "p90", "p99", "p999", "max")
        return {name: value / 1000 for name, value in zip(names, found, strict=True)}


class Vitals(msgspec.Struct, array_like=True):
    """How well a process has been since it began, in ns (vitals.py)."""

    lag: Histogram = msgspec.field(default_factory=Histogram)
    """How late its heartbeats were."""
    gc_pause: Histogram = msgspec.field(default_factory=Histogram)


class ShardStats(msgspec.Struct):
    """What a shard measures of itself, since it began."""

    recv_to_decoded: Histogram = msgspec.field(default_factory=Histogram)
    """Of a batch: from its first payload's receive until its last one is decoded."""
    decoded_to_pushed: Histogram = msgspec.field(default_factory=Histogram)
    batch_frames: Histogram = msgspec.field(default_factory=Histogram)
    """Frames per batch."""
    vitals: Vitals = msgspec.field(default_factory=Vitals)
    held_blocks: int = 0
    """Blocks that wait now until earlier ones are replayed."""
    requests: int = 0
    """Books and subscriptions that are being asked for now."""


class FeedStats:
    """Counters of one market, next to the code that counts."""

    __slots__ = ("book_updates", "duplicates", "gaps_closed", "gaps_opened", "resyncs", "trades")

    def __init__(self) -> None:
        self.trades = 0
        self.book_updates = 0
        self.duplicates = 0
        self.resyncs = 0
        self.gaps_opened = 0
        self.gaps_closed = 0
