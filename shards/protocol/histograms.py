"""
Latency histograms with log-linear buckets: cheap to record, exact to merge.

Values are whole nanoseconds. Each power of two is divided into 16 equal buckets, so a bucket's
upper edge overstates a value by at most 1/16. The edges are the same everywhere, so histograms
are merged by addition.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import msgspec

_SUB_BITS = 4
_SUB = 1 << _SUB_BITS
BUCKETS = (64 - _SUB_BITS + 1) * _SUB

_TIMED_PER_S: Final = 6
"""Batches timed per second, at high rates."""
_MOST: Final = 32
"""Largest number of frames between two timed batches."""
_SECOND_NS: Final = 1_000_000_000
_QUIET_NS: Final = 4_000_000_000
"""If timing the sampled batches takes this long, every batch may be timed."""


def bucket(value: int) -> int:
    """Return the bucket of a value; negative values count as 0."""
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
    """Counts of values per bucket, with their sum and maximum; sent as it is."""

    counts: dict[int, int] = {}
    total: int = 0
    maximum: int = 0

    @property
    def number(self) -> int:
        """Number of values counted."""
        return sum(self.counts.values())

    def record(self, value: int) -> None:
        """Count a value. Negative ones (clocks differ, a timer was early) count as 0."""
        if value < _SUB:
            # Zero in the sum as well: the sum is a counter and must not decrease.
            index = value = max(value, 0)
        else:
            shift = value.bit_length() - 5
            index = (shift << 4) + (value >> shift)
        try:
            self.counts[index] += 1
        except KeyError:
            self.counts[index] = 1
        self.total += value
        if value > self.maximum:
            self.maximum = value

    def add(self, value: int, times: int) -> None:
        """Count a value that occurred several times."""
        self.merge(Histogram({bucket(value): times}, value * times, value))

    def stretch(self, value: int) -> None:
        """Raise the maximum to a value that is not counted."""
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
        self.total += other.total
        self.maximum = max(self.maximum, other.maximum)

    def _cumulated(self) -> tuple[list[int], list[int]]:
        """Return the buckets in order, with the cumulative count of each."""
        # Implemented in C: one summary calls this for dozens of histograms.
        buckets = sorted(self.counts)
        return buckets, list(accumulate(map(self.counts.__getitem__, buckets)))

    def quantile(self, q: float) -> int:
        """Return the upper edge of the bucket that holds the q-quantile; 0 when empty."""
        return self.quantiles((q,))[0]

    def quantiles(self, wanted: Sequence[float]) -> list[int]:
        """Return several quantiles."""
        buckets, cumulated = self._cumulated()
        if not buckets:
            return [0] * len(wanted)
        ranks = [max(1, -int(-q * cumulated[-1] // 1)) for q in wanted]
        return [
            min(upper_edge(buckets[bisect_left(cumulated, rank)]), self.maximum) for rank in ranks
        ]

    def below(self, limits: Sequence[int]) -> list[int]:
        """
        Count the values below each of these limits.

        Exact if a limit is a bucket's lower edge, as every power of two is.
        """
        buckets, cumulated = self._cumulated()
        places = [bisect_left(buckets, bucket(limit)) for limit in limits]
        return [cumulated[place - 1] if place else 0 for place in places]

    def summary_us(self) -> dict[str, float]:
        """Return p50, p90, p99, p999 and max in microseconds."""
        found = [*self.quantiles((0.5, 0.9, 0.99, 0.999)), self.maximum]
        names = ("p50", "p90", "p99", "p999", "max")
        return {name: value / 1000 for name, value in zip(names, found, strict=True)}


class AdaptiveSampler:
    """
    Chooses the batches that are timed: all of them, or at high rates an even share.

    Timing a batch costs an eighth of the path of a single frame. Above six batches per second, the
    batch that contains every Nth frame is timed (N = 2, 4 … 32): an even sample, whatever the
    batches contain, and at least three per second.

    The caller times a batch once its frame sequence reaches ``due``.
    """

    __slots__ = ("_since", "_timed", "due", "every")

    def __init__(self) -> None:
        self.due = 0
        """The frame sequence at which the next batch is timed."""
        self.every = 1
        """Frames between two timed batches."""
        self._timed = 0
        self._since = 0

    def take(self, sequence: int, now: int) -> None:
        """Note that a batch is timed; once a second, adjust how many frames to skip."""
        self._timed += 1
        if now - self._since >= _SECOND_NS:
            self._adapt(now)
        self.due = sequence + self.every

    def _adapt(self, now: int) -> None:
        if now - self._since > _QUIET_NS:
            self.every = 1
        elif self._timed > _TIMED_PER_S:
            self.every = min(2 * self.every, _MOST)
        elif self._timed < _TIMED_PER_S // 2:
            self.every = max(self.every // 2, 1)
        self._timed, self._since = 0, now


class Vitals(msgspec.Struct, array_like=True):
    """Health of a process's event loop since its start, in ns (loop_monitor.py)."""

    lag: Histogram = msgspec.field(default_factory=Histogram)
    """Lateness of its heartbeats."""
    gc_pause: Histogram = msgspec.field(default_factory=Histogram)


class ShardStats(msgspec.Struct):
    """What a shard measures about itself, since its start."""

    recv_to_decoded: Histogram = msgspec.field(default_factory=Histogram)
    """Per batch: from the receipt of its first payload until its last payload is decoded."""
    decoded_to_pushed: Histogram = msgspec.field(default_factory=Histogram)
    batch_frames: Histogram = msgspec.field(default_factory=Histogram)
    """Frames per batch; every batch is counted."""
    vitals: Vitals = msgspec.field(default_factory=Vitals)
    held_blocks: int = 0
    """Blocks currently held until earlier ones are replayed."""
    requests: int = 0
    """Snapshots and subscriptions currently requested."""


class FeedStats:
    """Counters of one market, kept next to the code that counts."""

    __slots__ = ("book_updates", "duplicates", "gaps_closed", "gaps_opened", "resyncs", "trades")

    def __init__(self) -> None:
        self.trades = 0
        self.book_updates = 0
        self.duplicates = 0
        self.resyncs = 0
        self.gaps_opened = 0
        self.gaps_closed = 0
