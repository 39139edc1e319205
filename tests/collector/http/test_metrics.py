"""What becomes of histograms: Prometheus' own parser reads it back."""

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from collector.http import family_builders, metrics
from shards.protocol.histograms import Histogram


def test_a_histogram_is_exact_at_its_limits() -> None:
    histogram = Histogram()
    values = [0, 1_023, 1_024, 5_000, 1_000_000, 2**35 - 1, 2**35, 2**40]
    for value in values:
        histogram.record(value)
    family = family_builders.histograms("way_seconds", "A way.", ["hop"])
    family_builders.seconds(family, ["x"], histogram)

    class Found(Collector):
        def collect(self):
            return [family]

    (read,) = text_string_to_metric_families(generate_latest(Found()).decode())
    assert read.type == "histogram"
    buckets = {s.labels["le"]: s.value for s in read.samples if s.name.endswith("_bucket")}
    assert len(buckets) == 27
    for le, count in buckets.items():
        assert count == sum(value < round(float(le) * 1e9, 3) for value in values), le
    sums = {s.name.rpartition("_")[2]: s.value for s in read.samples if "bucket" not in s.name}
    assert sums["count"] == len(values) == buckets["+Inf"]
    assert sums["sum"] == sum(values) / 1e9


def test_without_an_aggregator_there_is_one_metric() -> None:
    assert [sample.value for sample in metrics.up(False).samples] == [0]
