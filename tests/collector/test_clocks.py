"""The clock is set back: what only knows instants goes on without waiting for it to be right."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collector.aggregator.state.gap_log import GapLog
from collector.aggregator.state.shard_sessions import ShardSession
from collector.aggregator.telemetry.market_time_series import MarketNow, MarketTimeSeries
from collector.aggregator.telemetry.time_series import Latency, Point, Sample, TimeSeries
from collector.control.epochs import Epochs
from collector.control.supervisor import ChildState, plan
from collector.settings.parts import Supervision
from collector.web.view_model import ViewModel
from shards.protocol.events import Gap
from shards.runtime import clock
from shards.runtime.saved import SavedFile

HOUR = 3_600
NOON = 1_800_000_000


def _gap(gap_id: int, state: Any) -> Gap:
    return Gap("m", gap_id, state, "crash", 5, 9, gap_id)


def test_epochs_only_grow_also_over_runs(tmp_path: Path) -> None:
    now = [1_000]
    first = Epochs(SavedFile(tmp_path / "epochs"), lambda: now[0])
    assert [first.next(), first.next()] == [1_000, 1_001]
    now[0] = 10
    assert first.next() == 1_002
    assert Epochs(SavedFile(tmp_path / "epochs"), lambda: now[0]).next() == 1_003
    now[0] = 2_000
    assert Epochs(SavedFile(tmp_path / "epochs"), lambda: now[0]).next() == 2_000


def test_a_successor_with_a_smaller_epoch_is_one_and_its_ancestor_is_not() -> None:
    link = ShardSession()
    link.begin(1_000, 1)
    assert not link.is_replaced(900, fresh=True)
    link.begin(900, 2)
    assert link.is_replaced(1_000, fresh=False)
    assert link.is_replaced(1_000, fresh=True)
    assert not link.is_replaced(900, fresh=False)


def test_a_gap_with_a_smaller_id_is_another_gap_and_one_that_comes_again_is_not() -> None:
    life = GapLog()
    for gap_id in (1_000, 400):
        life.apply(_gap(gap_id, "open"))
        assert life.gap is not None
        life.apply(_gap(gap_id, "closed"))
        assert life.gap is None
    for gap_id in (1_000, 400):
        life.apply(_gap(gap_id, "open"))
    assert (life.opened, life.closed, life.newest, life.gap) == (2, 2, 1_000, None)


def _point(ts: int) -> Point:
    return Point(ts, 1.0, 1.0, 5, 1.0, Latency(0.0, 0.0), {}, {})


def test_history_goes_on_at_once() -> None:
    timeline, times, board = TimeSeries(), MarketTimeSeries(), ViewModel()
    for ts in (NOON, NOON + 1, NOON + 1 - HOUR, NOON + 2 - HOUR):
        timeline.add(Sample(ts, 1.0, 1.0, 5, 1.0, {}, {}))
        times.add(ts, 30, [MarketNow("A", "live", 0)])
    since = NOON + 2 - HOUR
    assert len(timeline.answer("second", since)["points"]) == 1
    assert times.answer("A", 1, grain="second", since=since)["ts"] == [since]
    board.points([_point(NOON), _point(NOON + 1)])
    board.clock_is(since)
    board.points([_point(since)])
    assert board.last_point == since


def test_a_clock_that_is_set_is_noticed_and_one_that_is_adjusted_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wall = [0]
    monkeypatch.setattr(
        clock, "time", SimpleNamespace(time_ns=lambda: wall[0], monotonic_ns=lambda: 0)
    )
    watched = clock.SetClock()
    for step, expected in ((10**6, False), (-HOUR * 10**9, True), (0, False), (HOUR * 10**9, True)):
        wall[0] += step
        assert watched.was_set() == expected


def test_who_was_late_itself_judges_nobody() -> None:
    silent = ChildState("a", (100.0,), running=True, last_beat=500.0)
    mute = ChildState("b", (100.0,), running=True)
    assert len(plan(600.0, [silent, mute], Supervision())) == 2
    assert plan(600.0, [silent, mute], Supervision(), awake_since=599.0) == []
    # Only for as long as anybody else.
    assert len(plan(700.0, [silent, mute], Supervision(), awake_since=599.0)) == 2
