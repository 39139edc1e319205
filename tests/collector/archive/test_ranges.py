"""Ranges of heights, against sets of heights."""

import itertools

from hypothesis import given, strategies as st

from collector.archive import ranges

some = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6)


def _set(pairs: list[tuple[int, int]]) -> set[int]:
    return {height for first, last in pairs for height in range(first, last + 1)}


@given(some)
def test_a_union_has_the_same_heights_in_as_few_ranges_as_can_be(
    pairs: list[tuple[int, int]],
) -> None:
    found = ranges.union(pairs)
    assert _set(found) == _set(pairs)
    assert all(after[0] > before[1] + 1 for before, after in itertools.pairwise(found))


@given(some, some)
def test_a_difference_has_what_only_the_first_has(
    a: list[tuple[int, int]], b: list[tuple[int, int]]
) -> None:
    assert _set(ranges.minus(a, b)) == _set(a) - _set(b)
    assert ranges.count(ranges.minus(a, b)) == len(_set(a) - _set(b))


@given(some, st.integers(0, 40), st.integers(0, 40))
def test_a_share_is_what_lies_between(a: list[tuple[int, int]], first: int, last: int) -> None:
    assert _set(ranges.within(a, first, last)) == {h for h in _set(a) if first <= h <= last}


@given(st.sets(st.integers(0, 60)))
def test_heights_make_ranges(heights: set[int]) -> None:
    assert _set(ranges.from_heights(heights)) == heights
