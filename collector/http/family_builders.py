"""Build families of metrics: gauges, counters with labels, histograms. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from shards.protocol.histograms import Histogram

_SECONDS: Final = [1 << bits for bits in range(10, 36)]
"""Bucket limits in ns, from 1 µs to 34 s: powers of two, at which our histograms are exact."""
_SECONDS_LE: Final = [f"{limit / 1e9:.12g}" for limit in _SECONDS]
SIZES: Final = [1 << bits for bits in range(1, 10)]
SIZES_LE: Final = [str(limit - 1) for limit in SIZES]


def gauge(name: str, text: str, value: float) -> Metric:
    """Make a gauge without labels."""
    return GaugeMetricFamily(f"collector_{name}", text, value)


def labelled(
    family: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    text: str,
    labels: Sequence[str],
    rows: Iterable[tuple[Sequence[Any], float]],
) -> Metric:
    """Make a family of one value for each combination of labels."""
    made = family(f"collector_{name}", text, labels=labels)
    for values, value in rows:
        made.add_metric([str(label) for label in values], value)
    return made


def histograms(name: str, text: str, labels: Sequence[str]) -> HistogramMetricFamily:
    """Make an empty family of histograms."""
    return HistogramMetricFamily(f"collector_{name}", text, labels=labels)


def seconds(family: HistogramMetricFamily, labels: Sequence[str], found: Histogram) -> None:
    """Add a histogram of ns to a family in seconds."""
    counts = buckets(_SECONDS_LE, found.below(_SECONDS), found.number)
    family.add_metric(labels, counts, found.total / 1e9)


def buckets(limits: Sequence[str], below: Sequence[int], number: int) -> Any:
    """Return Prometheus' cumulative buckets."""
    return [*zip(limits, map(float, below), strict=True), ("+Inf", float(number))]
