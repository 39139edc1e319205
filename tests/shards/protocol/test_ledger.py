"""Ranges against a plain set of ints; a market's ledger and its arithmetic."""

import pytest
from hypothesis import given, settings, strategies as st

from shards.protocol.ledger import MarketLedger
from shards.protocol.ranges import Ranges
from tests.searches import examples

HEIGHTS = st.integers(1, 60)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "discard"]), HEIGHTS, st.integers(-2, 12)))


def members(ranges: Ranges) -> set[int]:
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


def test_a_market_that_has_not_joined_owes_nothing() -> None:
    ledger = MarketLedger()
    assert (ledger.due, ledger.received) == (0, 0)
    ledger.begin(100)
    assert (ledger.due, ledger.received) == (0, 0)


def test_every_due_block_is_received_replayed_or_missing() -> None:
    ledger = MarketLedger(100, 119, replayed=[(105, 107)], missing=[(110, 110), (112, 113)])
    assert ledger.due == 20
    assert ledger.received == 14
    assert repr(ledger) == "<MarketLedger 100..119, 3 replayed, 3 missing>"


@pytest.mark.parametrize(
    ("height", "replayed", "missing"),
    [
        (119, [(105, 107)], [(110, 110), (112, 113)]),
        (112, [(105, 107)], [(110, 110), (112, 112)]),
        (109, [(105, 107)], []),
        (105, [(105, 105)], []),
        (99, [], []),
    ],
)
def test_a_rewound_ledger_forgets_all_that_lies_after(
    height: int, replayed: list[tuple[int, int]], missing: list[tuple[int, int]]
) -> None:
    ledger = MarketLedger(100, 119, replayed=[(105, 107)], missing=[(110, 110), (112, 113)])
    ledger.rewind(height)
    assert ledger.last == height
    assert list(ledger.replayed) == replayed
    assert list(ledger.missing) == missing
    assert ledger.received + len(ledger.replayed) + len(ledger.missing) == ledger.due
