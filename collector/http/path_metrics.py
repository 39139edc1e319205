"""Metrics of the nodes that are read at once (``redundancy``). Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from collector.client.summary import Path
from collector.http.family_builders import labelled


def paths(found: Sequence[Path]) -> Iterator[Metric]:
    """Yield what is known of the nodes that are read at once; nothing without redundancy."""
    if not found:
        return
    labels = ["path", "endpoint"]

    def of(field: str) -> list[tuple[tuple[Any, ...], float]]:
        return [((path.path, path.endpoint), getattr(path, field)) for path in found]

    yield labelled(
        CounterMetricFamily,
        "path_blocks",
        "Blocks of subscriptions that a node brought first, or after another node.",
        [*labels, "copy"],
        [
            ((path.path, path.endpoint, copy), getattr(path, copy))
            for path in found
            for copy in ("first", "second")
        ],
    )
    yield labelled(
        CounterMetricFamily,
        "path_compared",
        "Copies of a node that were compared with the first ones.",
        labels,
        of("compared"),
    )
    yield labelled(
        CounterMetricFamily,
        "path_divergences",
        "Copies of a node that differed from the first ones; either may be wrong.",
        labels,
        of("differed"),
    )
    yield labelled(
        CounterMetricFamily,
        "path_contradicted",
        "Blocks of markets in which the chain's record contradicts a node.",
        labels,
        of("contradicted"),
    )
    yield labelled(
        GaugeMetricFamily, "path_height", "Newest block of a node's stream.", labels, of("height")
    )
    yield labelled(
        GaugeMetricFamily,
        "path_late_seconds",
        "Average time by which a node's copies come after the first ones.",
        labels,
        [((path.path, path.endpoint), path.late_us / 1e6) for path in found],
    )
    yield labelled(
        GaugeMetricFamily, "path_worse", "Whether a node is the worse one.", labels, of("worse")
    )
