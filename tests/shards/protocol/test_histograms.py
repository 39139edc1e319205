"""Histograms against hdrhistogram, and their exact merge."""

import msgspec
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings, strategies as st

from shards.protocol.histograms import BUCKETS, AdaptiveSampler, Histogram, bucket, upper_edge
from tests.searches import examples

VALUES = st.lists(st.integers(1, 10**9), min_size=1, max_size=100)


@settings(max_examples=examples(150), deadline=None)
@given(values=VALUES)
def test_quantiles_are_those_of_hdrhistogram_within_a_sixteenth(values: list[int]) -> None:
    oracle = HdrHistogram(1, 10**9, 3)
    histogram = Histogram()
    for value in values:
        oracle.record_value(value)
        histogram.record(value)
    for rank in {1, len(values) // 4 + 1, len(values) // 2 + 1, len(values)}:
        # The oracle rounds a rank where we take the next: between the two they agree.
        q = (rank - 0.25) / len(values)
        expected = oracle.get_value_at_percentile(100 * q)
        assert abs(histogram.quantile(q) - expected) <= expected / 16 + 1
    assert (histogram.number, histogram.total) == (len(values), sum(values))
    assert histogram.quantile(1.0) == histogram.maximum == max(values)


@settings(max_examples=examples(100), deadline=None)
@given(parts=st.lists(VALUES, max_size=4))
def test_merging_is_exact(parts: list[list[int]]) -> None:
    merged, whole = Histogram(), Histogram()
    for part in parts:
        histogram = Histogram()
        for value in part:
            histogram.record(value)
            whole.record(value)
        merged.merge(histogram)
    assert merged.counts == whole.counts
    assert (merged.number, merged.total) == (whole.number, whole.total)
    assert merged.maximum == whole.maximum


@settings(max_examples=examples(200), deadline=None)
@given(value=st.integers(0, 2**63 - 1))
def test_a_bucket_holds_its_values_and_overstates_none_by_more_than_a_sixteenth(value: int) -> None:
    index = bucket(value)
    assert 0 <= index < BUCKETS
    assert value <= upper_edge(index) <= value + value // 16
    assert bucket(upper_edge(index)) == index
    assert bucket(upper_edge(index) + 1) == index + 1
    histogram = Histogram()
    histogram.record(value)
    assert list(histogram.counts) == [index]


def test_a_negative_latency_counts_as_nothing() -> None:
    histogram = Histogram()
    histogram.record(-5)
    assert bucket(-5) == 0
    assert (histogram.number, histogram.quantile(0.5), histogram.maximum) == (1, 0, 0)
    assert histogram.total == 0


def test_a_value_may_be_recorded_many_times_at_once() -> None:
    once, many = Histogram(), Histogram()
    many.add(1_000, times=3)
    for _ in range(3):
        once.record(1_000)
    assert (many.counts, many.number, many.total) == (once.counts, once.number, once.total)


def test_the_summary_is_in_microseconds() -> None:
    histogram = Histogram()
    for _ in range(99):
        histogram.record(8_000)
    histogram.record(1_000_000)
    summary = histogram.summary_us()
    assert list(summary) == ["p50", "p90", "p99", "p999", "max"]
    assert summary["p50"] == pytest.approx(8, rel=1 / 16)
    assert summary["p999"] == summary["max"] == 1_000


@settings(max_examples=examples(100), deadline=None)
@given(values=VALUES)
def test_values_below_powers_of_two_are_counted_exactly(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    limits = [1 << bits for bits in range(5, 31)]
    assert histogram.below(limits) == [sum(v < limit for v in values) for limit in limits]


@settings(max_examples=examples(50), deadline=None)
@given(values=VALUES)
def test_a_histogram_travels_as_it_is(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    packed = msgspec.msgpack.encode(histogram)
    assert msgspec.msgpack.decode(packed, type=Histogram) == histogram


def test_several_quantiles_in_one_pass_are_those_one_by_one() -> None:
    histogram = Histogram()
    for value in range(1, 2_000):
        histogram.record(value * 17)
    wanted = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)
    assert histogram.quantiles(wanted) == [histogram.quantile(q) for q in wanted]


def test_an_empty_histogram_says_zero() -> None:
    assert Histogram().quantiles((0.5, 0.9)) == [0, 0]
    assert Histogram().below([1, 2]) == [0, 0]
    assert Histogram().quantile(0.99) == 0
    assert set(Histogram().summary_us().values()) == {0}


S = 1_000_000_000


@pytest.mark.parametrize(("per_s", "every"), [(1, 1), (6, 1), (20, 4), (100, 32), (5_000, 32)])
def test_more_batches_are_timed_the_less_there_are_of_them(per_s: int, every: int) -> None:
    sampler, timed = AdaptiveSampler(), []
    for sequence in range(1, 20 * per_s + 1):
        now = 100 * S + sequence * S // per_s
        if sequence >= sampler.due:
            sampler.take(sequence, now)
            timed.append(sequence)
    assert sampler.every == every
    assert {b - a for a, b in zip(timed[-4:], timed[-3:], strict=False)} == {every}


def test_a_raised_maximum_counts_nothing() -> None:
    histogram = Histogram()
    histogram.record(1_000)
    histogram.stretch(5_000)
    histogram.stretch(10)
    assert (histogram.number, histogram.total, histogram.maximum) == (1, 1_000, 5_000)
