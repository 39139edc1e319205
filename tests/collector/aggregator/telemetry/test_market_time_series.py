"""Each market's state over time: what is answered, and how much is kept."""

from typing import Any

import pytest

from collector.aggregator.telemetry.market_time_series import MarketNow, MarketTimeSeries
from collector.aggregator.telemetry.time_series import SECONDS

MINUTE = 1_800_000_000 // 60 * 60


def told(
    times: MarketTimeSeries, symbol: str, grain: str = "second", since: int = 0
) -> dict[str, Any]:
    return times.answer(symbol, 11, grain=grain, since=since)


def test_by_the_second_a_market_has_its_state_and_what_is_missing() -> None:
    times = MarketTimeSeries()
    times.add(MINUTE, 30, [MarketNow("A", "live", 0), MarketNow("B", "syncing", 5)])
    times.add(MINUTE + 1, 50, [MarketNow("A", "stale", 10), MarketNow("B", "live", 0)])
    assert told(times, "A") == {
        "symbol": "A",
        "grain_s": 1,
        "ts": [MINUTE, MINUTE + 1],
        "state": ["live", "stale"],
        "missing": [0, 10],
        "completeness": [1.0, 0.75],
    }
    assert told(times, "B", since=MINUTE + 1)["state"] == ["live"]
    assert told(times, "C")["ts"] == []


def test_by_the_minute_it_has_the_share_that_it_was_live() -> None:
    times = MarketTimeSeries()
    for second, state in enumerate(["live", "live", "stale", "live"]):
        times.add(MINUTE + second, 30, [MarketNow("A", state, second), MarketNow("B", "failed", 0)])
    assert told(times, "A", "minute")["ts"] == []
    times.add(MINUTE + 60, 31, [MarketNow("A", "live", 0), MarketNow("B", "failed", 0)])
    found = told(times, "A", "minute")
    assert (found["ts"], found["live"], found["missing"]) == ([MINUTE], [0.75], [3])
    assert told(times, "B", "minute")["live"] == [0.0]


def test_a_market_that_comes_later_or_goes_keeps_its_place_in_time() -> None:
    times = MarketTimeSeries()
    times.add(MINUTE, 30, [MarketNow("A", "live", 0)])
    times.add(MINUTE + 1, 31, [MarketNow("A", "live", 0), MarketNow("B", "live", 7)])
    times.add(MINUTE + 2, 32, [MarketNow("B", "live", 0)])
    assert told(times, "A")["state"] == ["live", "live", ""]
    assert told(times, "B")["state"] == ["", "live", "live"]
    assert told(times, "B")["missing"] == [0, 7, 0]


@pytest.mark.parametrize("more", [1, SECONDS // 8 + 1, SECONDS])
def test_an_hour_is_told_and_little_more_is_kept(more: int) -> None:
    times = MarketTimeSeries()
    for second in range(SECONDS + more):
        rows = [MarketNow("A", "live", 0)] + ([MarketNow("B", "live", 0)] if second < 5 else [])
        times.add(MINUTE + second, 30, rows)
    found = told(times, "A")
    assert (len(found["ts"]), found["ts"][0]) == (SECONDS, MINUTE + more)
    assert len(found["state"]) == len(found["missing"]) == SECONDS
    assert len(times._seconds.ts) <= SECONDS * 9 // 8
    if more > SECONDS // 8:
        assert times._seconds.markets.keys() == {"A"}


def test_more_missing_than_can_be_kept_does_not_wrap() -> None:
    times = MarketTimeSeries()
    times.add(MINUTE, 1_000_000, [MarketNow("A", "stale", 900_000)])
    assert told(times, "A")["missing"] == [65_535]
