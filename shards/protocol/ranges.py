"""
Sets of heights as ranges, both ends included. Pure.

Their size depends on the number of holes, not on time; a set may bound it. A `RangeList` is how they
are stored and sent; `Ranges` is a set that changes.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

RangeList: TypeAlias = list[tuple[int, int]]
"""Ranges in ascending order, without overlap."""
_OLDEST: Final = 8
"""The lowest ranges of a bounded set, which are never summed up."""


def union(ranges: Iterable[tuple[int, int]]) -> RangeList:
    """Return ranges in order; those that touch or overlap become one, empty ones are dropped."""
    found: RangeList = []
    for first, last in sorted(ranges):
        if last < first:
            continue
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def minus(ranges: Iterable[tuple[int, int]], taken: Iterable[tuple[int, int]]) -> RangeList:
    """Return the heights that are in `ranges` and not in `taken`."""
    cuts = union(taken)
    found: RangeList = []
    start = 0
    for first, last in union(ranges):
        while start < len(cuts) and cuts[start][1] < first:
            start += 1
        at = start
        while at < len(cuts) and cuts[at][0] <= last:
            if first < cuts[at][0]:
                found.append((first, cuts[at][0] - 1))
            first = cuts[at][1] + 1
            at += 1
        if first <= last:
            found.append((first, last))
    return found


def within(ranges: Iterable[tuple[int, int]], first: int, last: int) -> RangeList:
    """Return the heights of `ranges` that lie between two heights, inclusive."""
    return union((max(low, first), min(high, last)) for low, high in ranges)


def count(ranges: Iterable[tuple[int, int]]) -> int:
    """Return the number of heights in ranges that do not overlap."""
    return sum(last - first + 1 for first, last in ranges)


class Ranges:
    """A set of heights that changes; adding to it takes one search."""

    __slots__ = ("_most", "_ranges", "changes")

    def __init__(self, ranges: Iterable[tuple[int, int]] = (), most: int = 0) -> None:
        """
        ``most`` bounds the number of ranges; 0: it does not.

        Beyond it, those after the lowest eight are summed up: one range of as many heights stands
        for them. Their number stays exact, and so do all newer ranges.
        """
        self._most = most
        self._ranges = union(ranges)
        self._sum_up()
        self.changes = 0
        """Grows whenever the set may have changed: comparing this is cheaper than the ranges."""

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
        self._sum_up()
        self.changes += 1

    def _sum_up(self) -> None:
        """Let one range stand for several, if there are too many."""
        ranges, surplus = self._ranges, len(self._ranges) - self._most
        if self._most and surplus > 0:
            several = slice(_OLDEST, _OLDEST + surplus + 1)
            first = ranges[_OLDEST][0]
            ranges[several] = [(first, first + count(ranges[several]) - 1)]

    def discard(self, first: int, last: int) -> None:
        """Remove the heights from ``first`` to ``last``; absent heights are ignored."""
        self._ranges = minus(self._ranges, [(first, last)])
        self.changes += 1

    def within(self, first: int, last: int) -> RangeList:
        """Return the parts of the set between ``first`` and ``last``, inclusive."""
        return within(self._ranges, first, last)

    def __contains__(self, height: int) -> bool:
        at = bisect_left(self._ranges, height, key=lambda r: r[1])
        return at < len(self._ranges) and self._ranges[at][0] <= height

    def __len__(self) -> int:
        return count(self._ranges)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self._ranges == other._ranges

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Ranges({self._ranges})"
