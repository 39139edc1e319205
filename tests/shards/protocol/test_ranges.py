"""Ranges of heights against plain sets of heights."""

import itertools

from hypothesis import given, settings, strategies as st

from shards.protocol import ranges
from shards.protocol.ranges import RangeList, Ranges
from tests.searches import examples

HEIGHTS = st.integers(1, 60)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "discard"]), HEIGHTS, st.integers(-2, 12)))
PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6)


def members(ranges: Ranges | RangeList) -> set[int]:
    return {height for first, last in ranges for height in range(first, last + 1)}


@settings(max_examples=examples(200), deadline=None)
@given(steps=STEPS)
def test_ranges_hold_what_a_set_would_hold(steps: list[tuple[str, int, int]]) -> None:
    ranges = Ranges()
    truth: set[int] = set()
    for step, first, more in steps:
        heights = range(first, first + more + 1)
        if step == "add":
            ranges.add(first, first + more)
            truth.update(heights)
        else:
            ranges.discard(first, first + more)
            truth.difference_update(heights)
        assert members(ranges) == truth
        assert len(ranges) == len(truth)
        assert all((height in ranges) == (height in truth) for height in range(80))
        between = {h for a, b in ranges.within(20, 40) for h in range(a, b + 1)}
        assert between == truth & set(range(20, 41))
        rows = list(ranges)
        assert rows == sorted(rows)
        assert all(first <= last for first, last in rows)
        assert all(rows[n][1] + 1 < rows[n + 1][0] for n in range(len(rows) - 1)), (
            "neighbours merge"
        )
    assert Ranges(list(ranges)) == ranges


def test_a_height_is_added_alone_when_no_end_is_given() -> None:
    ranges = Ranges([(5, 6)])
    ranges.add(8)
    assert list(ranges) == [(5, 6), (8, 8)]
    ranges.add(7)
    assert repr(ranges) == "Ranges([(5, 8)])"
    assert ranges != [(5, 8)]


@given(PAIRS)
def test_a_union_has_the_same_heights_in_the_fewest_ranges(
    pairs: RangeList,
) -> None:
    found = ranges.union(pairs)
    assert members(found) == members(pairs)
    assert all(after[0] > before[1] + 1 for before, after in itertools.pairwise(found))


@given(PAIRS, PAIRS)
def test_a_difference_has_what_only_the_first_has(a: RangeList, b: RangeList) -> None:
    assert members(ranges.minus(a, b)) == members(a) - members(b)
    assert ranges.count(ranges.minus(a, b)) == len(members(a) - members(b))


@given(PAIRS, st.integers(0, 40), st.integers(0, 40))
def test_within_returns_the_heights_between_two(a: RangeList, first: int, last: int) -> None:
    assert members(ranges.within(a, first, last)) == {h for h in members(a) if first <= h <= last}


def test_a_bounded_set_keeps_its_number_and_its_newest_and_lowest_ranges() -> None:
    ranges, truth = Ranges(most=20), Ranges()
    for n in range(500):
        ranges.add(10 * n, 10 * n + n % 3)
        truth.add(10 * n, 10 * n + n % 3)
        assert len(ranges) == len(truth)
        assert len(list(ranges)) == min(n + 1, 20)
    rows, all_rows = list(ranges), list(truth)
    assert rows[:8] == all_rows[:8]
    assert rows[9:] == all_rows[-11:]
    assert rows == sorted(rows)
    assert list(Ranges(all_rows, most=20)) == rows, "also of ranges that it begins with"
