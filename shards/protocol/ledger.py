"""
The ledger: which blocks of a market were received, replayed, or are missing.

It is kept as ranges of heights, so its size depends on the number of gaps, not on time. A market's
*due* blocks run from the first block after it joined to the newest block of the chain.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Self

import msgspec


class Ranges:
    """A set of heights, kept as disjoint inclusive ranges in ascending order."""

    __slots__ = ("_ranges",)

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges: list[tuple[int, int]] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Add the heights from ``first`` to ``last``, or ``first`` alone."""
        last = first if last is None else last
        if last < first:
            return
        ranges = self._ranges
        # From here on, every range ends at or after the place of our left neighbour.
        start = bisect_left(ranges, first - 1, key=lambda r: r[1])
        stop = start
        while stop < len(ranges) and ranges[stop][0] <= last + 1:
            first = min(first, ranges[stop][0])
            last = max(last, ranges[stop][1])
            stop += 1
        ranges[start:stop] = [(first, last)]

    def discard(self, first: int, last: int) -> None:
        """Remove the heights from ``first`` to ``last``; absent heights are ignored."""
        if last < first:
            return
        kept: list[tuple[int, int]] = []
        for a, b in self._ranges:
            if b < first or a > last:
                kept.append((a, b))
                continue
            if a < first:
                kept.append((a, first - 1))
            if b > last:
                kept.append((last + 1, b))
        self._ranges = kept

    def within(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return the parts of the set between ``first`` and ``last``, inclusive."""
        return [(max(a, first), min(b, last)) for a, b in self._ranges if a <= last and b >= first]

    def __contains__(self, height: int) -> bool:
        at = bisect_left(self._ranges, height, key=lambda r: r[1])
        return at < len(self._ranges) and self._ranges[at][0] <= height

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self._ranges)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._ranges == other._ranges

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Ranges({self._ranges})"


class LedgerState(msgspec.Struct, array_like=True, gc=False):
    """
    A market's ledger as it travels and is saved.

    A shard's report of a market, the point where another process takes it up, and what the
    aggregator saves of it are this with something beside it.
    """

    first: int = 0
    """0 while the market has not joined."""
    last: int = 0
    replayed: list[tuple[int, int]] = []
    missing: list[tuple[int, int]] = []
    audited_to: int = 0
    """On indexer-grpc: the instant up to which its trades were compared, in ns."""

    def copy_ledger(self, other: "LedgerState") -> None:
        """Stand where another ledger stands."""
        self.first, self.last = other.first, other.last
        self.replayed, self.missing = other.replayed, other.missing
        self.audited_to = other.audited_to


class MarketLedger:
    """
    One market's blocks: each height from ``first`` to ``last`` is accounted for as received,
    replayed or missing.
    """

    __slots__ = ("audited_to", "first", "last", "missing", "replayed")

    def __init__(
        self,
        first: int = 0,
        last: int = 0,
        replayed: Iterable[tuple[int, int]] = (),
        missing: Iterable[tuple[int, int]] = (),
        audited_to: int = 0,
    ) -> None:
        self.first = first
        """0 until the market joins."""
        self.last = last
        self.replayed = Ranges(replayed)
        self.missing = Ranges(missing)
        self.audited_to = audited_to
        """For indexer-grpc, whose heights do not count blocks: trades executed up to this
        instant (ns) were compared with the indexer's list; 0 until there is a baseline."""

    @classmethod
    def of(cls, state: LedgerState) -> Self:
        """Take a ledger up as it came."""
        return cls(state.first, state.last, state.replayed, state.missing, state.audited_to)

    def state(self) -> LedgerState:
        """Return it as it travels."""
        return LedgerState(
            self.first, self.last, list(self.replayed), list(self.missing), self.audited_to
        )

    @property
    def due(self) -> int:
        """Blocks accounted for so far."""
        return self.last - self.first + 1 if self.first else 0

    @property
    def received(self) -> int:
        """Blocks received live from the source."""
        return self.due - len(self.replayed) - len(self.missing)

    def begin(self, height: int) -> None:
        """Join at ``height``, the first block that is due."""
        self.first = height
        self.last = height - 1

    def rewind(self, height: int) -> None:
        """Un-count everything after ``height``: those blocks will be replayed."""
        self.replayed.discard(height + 1, self.last)
        self.missing.discard(height + 1, self.last)
        self.last = height

    def __repr__(self) -> str:
        return (
            f"<MarketLedger {self.first}..{self.last}, {len(self.replayed)} replayed, "
            f"{len(self.missing)} missing>"
        )
