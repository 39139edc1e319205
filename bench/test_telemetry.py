"""What `bench.telemetry` compares: the same frames, measured and not."""

from bench.measured import ways


def test_both_ways_publish_the_same_and_only_one_measures() -> None:
    """Otherwise the difference says nothing."""
    with ways() as (both, made):
        for way in both:
            for payloads in made.blocks[:3]:
                way.block(payloads)
        measured, bare = both
        assert measured.aggregator.publisher.published == bare.aggregator.publisher.published > 0
        assert measured.aggregator.telemetry.latencies.hop("push_to_aggregator").number > 0
        assert bare.aggregator.telemetry.latencies.hop("push_to_aggregator").number == 0
