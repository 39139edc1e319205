"""Sets of heights as ranges: their size depends on the number of holes, not on time. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator


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
