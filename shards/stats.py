"""
Latency histograms with log-linear buckets: cheap to record, exact to merge.

Values are whole nanoseconds. Each power of two is cut into 16 equal buckets, so a bucket's
upper edge overstates a value by at most 1/16. The edges are the same everywhere: merging
is adding.
"""

from collections.abc import Iterable, Mapping

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


class Histogram:
    """Counts of values per bucket, with their number, sum and maximum."""

    __slots__ = ("counts", "maximum", "number", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.number = 0
        self.total = 0
        self.maximum = 0

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
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count
        self.number += other.number
        self.total += other.total
        self.maximum = max(self.maximum, other.maximum)

    def quantile(self, q: float) -> int:
        """Return the upper edge of the bucket that holds the q-quantile; 0 when empty."""
        rank = max(1, -int(-q * self.number // 1))
        seen = 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= rank:
                return min(upper_edge(index), self.maximum)
        return 0

    def summary_us(self, quantiles: Iterable[tuple[str, float]] = ()) -> Mapping[str, float]:
        """Return p50, p90, p99, p999 and max in microseconds, or what is asked for."""
        wanted = tuple(quantiles) or (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999))
        summary = {name: self.quantile(q) / 1000 for name, q in wanted}
        summary["max"] = self.maximum / 1000
        return summary


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
