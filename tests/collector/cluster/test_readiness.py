"""When a cell counts as a complete replica."""

from collector.client.summary import Blocks, CoverageNow, Gaps, Markets, Summary
from collector.cluster.readiness import STUCK_S, Readiness


def summary(*, live: float = 1.0, gaps: int = 0, replayed: int = 0, missing: int = 0) -> Summary:
    return Summary(
        markets=Markets(requested=4),
        coverage=CoverageNow(now=live),
        gaps=Gaps(open=gaps),
        blocks=Blocks(replayed=replayed, missing=missing),
    )


def test_a_cell_is_complete_when_all_is_live_and_no_gap_is_open() -> None:
    readiness = Readiness()
    assert not readiness.take(summary(live=0.5), 1.0)
    assert readiness.take(summary(), 2.0)


def test_while_a_gap_is_being_filled_it_is_not() -> None:
    readiness, now = Readiness(), 0.0
    for replayed in range(100):
        now += STUCK_S / 2
        filling = summary(gaps=3, replayed=replayed, missing=100 - replayed)
        assert not readiness.take(filling, now)
    assert readiness.take(summary(replayed=100), now + 1)


def test_a_gap_that_no_node_can_fill_does_not_count_for_ever() -> None:
    readiness = Readiness()
    stuck = summary(gaps=3, replayed=7, missing=50)
    assert not readiness.take(stuck, 1.0)
    assert not readiness.take(stuck, STUCK_S)
    assert readiness.take(stuck, STUCK_S + 1.0)
    # Another one opens.
    assert not readiness.take(summary(gaps=4, replayed=7, missing=51), STUCK_S + 2.0)
    # A market that is not live counts, whatever the gaps.
    assert not readiness.take(summary(live=0.9, gaps=4, replayed=7, missing=51), 5 * STUCK_S)
    assert not readiness.take(summary(gaps=4, replayed=7, missing=51), 5 * STUCK_S + 1)
