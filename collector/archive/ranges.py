"""Sets of heights as sorted lists of ranges, both ends included. Pure."""

from collections.abc import Iterable
from typing import TypeAlias

Ranges: TypeAlias = list[tuple[int, int]]


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return ranges sorted, with what touches or overlaps made one."""
    found: Ranges = []
    for first, last in sorted(ranges):
        if last < first:
            continue
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def minus(ranges: Iterable[tuple[int, int]], taken: Iterable[tuple[int, int]]) -> Ranges:
    """Return what is in `ranges` and not in `taken`."""
    left = union(ranges)
    for first, last in union(taken):
        cut: Ranges = []
        for low, high in left:
            if high < first or low > last:
                cut.append((low, high))
                continue
            if low < first:
                cut.append((low, first - 1))
            if high > last:
                cut.append((last + 1, high))
        left = cut
    return left


def within(ranges: Iterable[tuple[int, int]], first: int, last: int) -> Ranges:
    """Return the share of ranges that lies between two heights."""
    return union((max(low, first), min(high, last)) for low, high in ranges)


def count(ranges: Iterable[tuple[int, int]]) -> int:
    """Return how many heights there are."""
    return sum(last - first + 1 for first, last in ranges)


def from_heights(heights: Iterable[int]) -> Ranges:
    """Return the ranges that single heights make."""
    return union((height, height) for height in heights)
