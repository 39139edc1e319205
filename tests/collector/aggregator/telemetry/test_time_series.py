"""Points by the second and by the minute: what they say, and how many are kept."""

from typing import Any

import msgspec
import pytest

from collector.aggregator.telemetry.time_series import SECONDS, Sample, TimeSeries, Use
from shards.protocol.histograms import Histogram

MINUTE = 1_800_000_000 // 60 * 60


def histogram(*values_us: int) -> Histogram:
    made = Histogram()
    for value in values_us:
        made.record(value * 1_000)
    return made


def sample(ts: int, *, coverage: float = 1.0, live: int = 5, **more: Any) -> Sample:
    return Sample(
        ts=ts,
        coverage=coverage,
        completeness=1.0,
        live=live,
        frames_per_s=more.get("frames_per_s", 100.0),
        processes=more.get("processes", {"shard 0": Use(10.0, 50.0)}),
        latencies=more.get("latencies", {}),
    )


def points(timeline: TimeSeries, grain: str, since: float = 0) -> list[dict[str, Any]]:
    answer = timeline.answer(grain, since)
    decoded: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(answer))
    assert decoded["grain_s"] == (1 if grain == "second" else 60)
    found: list[dict[str, Any]] = decoded["points"]
    return found


def test_a_second_is_a_point_with_the_latencies_of_each_shard_and_of_all() -> None:
    timeline = TimeSeries()
    latencies = {0: histogram(100), 1: histogram(900, 900)}
    timeline.add(sample(MINUTE, latencies=latencies))
    (point,) = points(timeline, "second")
    assert point["shards"].keys() == {"0", "1"}
    assert point["shards"]["0"]["p99"] == pytest.approx(100, rel=1 / 16)
    assert point["latency_us"]["p50"] == pytest.approx(900, rel=1 / 16)
    assert point | {"shards": {}, "latency_us": {}} == {
        "ts": MINUTE,
        "coverage": 1.0,
        "completeness": 1.0,
        "live": 5,
        "frames_per_s": 100.0,
        "latency_us": {},
        "processes": {"shard 0": {"cpu_percent": 10.0, "rss_mb": 50.0}},
        "shards": {},
    }


def test_a_minute_is_made_of_its_seconds_once_it_is_over() -> None:
    timeline = TimeSeries()
    timeline.add(sample(MINUTE + 1, latencies={0: histogram(*[100] * 98)}))
    used = {"shard 0": Use(30.0, 70.0), "aggregator": Use(1.0, 2.0)}
    late = {0: histogram(5_000, 5_000)}
    timeline.add(
        sample(MINUTE + 2, coverage=0.5, live=2, processes=used, latencies=late, frames_per_s=300)
    )
    assert points(timeline, "minute") == []
    timeline.add(sample(MINUTE + 60))
    (point,) = points(timeline, "minute")
    assert (point["ts"], point["coverage"], point["live"]) == (MINUTE, 0.75, 2)
    assert point["frames_per_s"] == 200.0
    assert point["processes"]["shard 0"] == {"cpu_percent": 20.0, "rss_mb": 70.0}
    assert point["processes"]["aggregator"] == {"cpu_percent": 1.0, "rss_mb": 2.0}
    # The quantiles are of all the minute's values, not a mean of the seconds' quantiles.
    assert point["latency_us"]["p50"] == pytest.approx(100, rel=1 / 16)
    assert point["latency_us"]["p99"] == pytest.approx(5_000, rel=1 / 16)


def test_an_asker_gets_the_points_since_its_last_one() -> None:
    timeline = TimeSeries()
    for second in range(10):
        timeline.add(sample(MINUTE + second))
    assert [p["ts"] - MINUTE for p in points(timeline, "second", MINUTE + 7)] == [7, 8, 9]
    assert points(timeline, "second", MINUTE + 10) == []


def test_an_hour_of_seconds_is_kept_and_no_more() -> None:
    timeline = TimeSeries()
    for second in range(SECONDS + 30):
        timeline.add(sample(MINUTE + second))
    kept = points(timeline, "second")
    assert (len(kept), kept[0]["ts"]) == (SECONDS, MINUTE + 30)
    assert len(points(timeline, "minute")) == 60
