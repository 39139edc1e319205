"""What a client is told, whatever it missed: the newest state, and never more than that."""

import pytest
from hypothesis import given, settings, strategies as st

from collector.aggregator.telemetry.journal import Entry
from collector.aggregator.telemetry.time_series import Latency, Point
from collector.client.summary import Summary
from collector.web.view_model import EVENTS, LIVE_POINTS, POINTS, Row, ViewModel, level
from tests.searches import examples

STATUS = Summary(version="1")


def rows(*states: str, counted: int = 0) -> list[Row]:
    return [(f"M{n}", state, 0, "", counted) for n, state in enumerate(states)]


def event(number: int) -> Entry:
    return Entry(number, number, "gap", None, None, "", "")


def point(ts: int) -> Point:
    return Point(ts, 1.0, 1.0, 1, 0.0, Latency(0.0, 0.0), {}, {})


def test_a_new_client_is_told_everything_once() -> None:
    board = ViewModel()
    board.grid(rows("live", "stale"), now=0.0)
    board.status(STATUS)
    board.events([event(1)], last=1)
    told = board.changes(0)
    assert told["status"]["version"] == "1"
    assert told["listing"] == ["M0", "M1"]
    assert [cell[:2] for cell in told["cells"]] == [(0, "live"), (1, "stale")]
    assert told["events"] == [event(1)]
    assert board.changes(board.version) == {}


def test_only_cells_that_look_different_are_told() -> None:
    board = ViewModel()
    board.grid(rows("live", "live", "live"), now=0.0)
    seen = board.version
    board.grid(rows("live", "stale", "live"), now=0.5)
    assert [cell[:2] for cell in board.changes(seen)["cells"]] == [(1, "stale")]
    assert "listing" not in board.changes(seen)


def test_a_slow_client_skips_what_came_and_went() -> None:
    board = ViewModel()
    board.grid(rows("live"), now=0.0)
    seen = board.version
    for n in range(1, 1001):
        board.grid(rows("stale" if n % 2 else "live"), now=n / 2)
        board.events([event(n)], last=n)
        board.points([point(n)])
    told = board.changes(seen)
    assert [cell[1] for cell in told["cells"]] == ["live"]
    assert told["events"] == [event(n) for n in range(1001 - EVENTS, 1001)]
    assert told["points"] == [point(n) for n in range(1001 - LIVE_POINTS, 1001)]


def test_another_listing_is_told_with_all_its_cells() -> None:
    board = ViewModel()
    board.grid(rows("live"), now=0.0)
    seen = board.version
    board.grid(rows("live", "pending"), now=0.5)
    told = board.changes(seen)
    assert told["listing"] == ["M0", "M1"]
    assert [cell[:2] for cell in told["cells"]] == [(0, "live"), (1, "pending")]
    assert "M1" in board
    board.grid(rows("live"), now=1.0)
    assert "M1" not in board


def test_a_market_keeps_its_place_whatever_the_order_of_the_rows() -> None:
    board = ViewModel()
    board.grid(rows("live", "stale", "live"), now=0.0)
    seen = board.version
    board.grid(rows("live", "stale", "live")[::-1], now=0.5)
    assert board.changes(seen) == {}


def test_silence_is_told_until_the_collector_answers() -> None:
    board = ViewModel()
    board.grid(rows("live"), now=0.0)
    seen = board.version
    board.silent(1_000)
    assert board.changes(seen) == {"silent_since": 1_000}
    seen = board.version
    board.grid(rows("live"), now=5.0)
    assert board.changes(seen)["silent_since"] is None
    assert "silent_since" not in board.changes(board.version)


def test_activity_brightens_with_events_and_fades_without() -> None:
    board = ViewModel()
    levels = []
    for n in range(20):
        counted = min(n, 10) * 4
        board.grid(rows("live", counted=counted), now=n * 1.0)
        levels.append(board.changes(0)["cells"][0][2])
    assert levels[0] == 0
    assert levels[10] == 4
    assert levels[10:] == sorted(levels[10:], reverse=True)
    assert levels[-1] < 4


def test_a_restarted_aggregator_counts_from_nothing_without_a_leap() -> None:
    board = ViewModel()
    for n, counted in enumerate([1_000_000, 1_000_000, 0, 1, 2]):
        board.grid(rows("live", counted=counted), now=float(n))
    assert board.changes(0)["cells"][0][2] <= level(1.0)


def test_a_journal_that_begins_anew_replaces_the_old_one() -> None:
    board = ViewModel()
    board.events([event(n) for n in range(1, 9)], last=8)
    board.events([event(1)], last=1)
    assert board.changes(0)["events"] == [event(1)]


def test_points_are_taken_once_and_outlive_the_aggregator() -> None:
    board = ViewModel()
    board.points([point(1), point(2)])
    board.points([point(2), point(3)])
    assert board.history(2) == [point(2), point(3)]
    board.points([point(n) for n in range(4, 4 + 2 * POINTS)])
    assert len(board.history(0)) == POINTS


@pytest.mark.parametrize(("speed", "expected"), [(0.0, 0), (0.1, 1), (0.5, 2), (1.5, 3), (50.0, 4)])
def test_levels_of_activity(speed: float, expected: int) -> None:
    assert level(speed) == expected


@settings(max_examples=examples(60), deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.lists(st.sampled_from(["live", "stale", "syncing"]), min_size=1, max_size=5),
            st.booleans(),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_whenever_a_client_looks_it_ends_with_what_is(steps: list[tuple[list[str], bool]]) -> None:
    """Whatever the client skips, applying what it is told gives the state of the board."""
    board, seen = ViewModel(), 0
    shown: dict[str, str] = {}
    listing: list[str] = []
    for number, (states, looks) in enumerate([*steps, (steps[-1][0], True)]):
        board.grid(rows(*states), now=number * 0.5)
        if not looks:
            continue
        told, seen = board.changes(seen), board.version
        if "listing" in told:
            listing, shown = told["listing"], {}
        shown |= {listing[cell[0]]: cell[1] for cell in told.get("cells", [])}
        assert shown == {row[0]: row[1] for row in rows(*states)}
