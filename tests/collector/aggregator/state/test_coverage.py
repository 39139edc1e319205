"""Which markets are live, which blocks were received, and what a restart keeps of both."""

from typing import Literal

import msgspec
import pytest

from collector.aggregator.state.coverage import GRACE_S, SILENT_S, Coverage
from collector.aggregator.state.market_state import MarketState
from collector.client.summary import BlockCounts, ChainFeed, Gaps, Hole
from shards.protocol.events import Gap
from shards.protocol.settings import CHAIN, Market
from tests.shards.reported import market_report as row, report

A, B, C = (f"0x{n:064x}" for n in (1, 2, 3))
MARKETS = [Market(m, f"{n}/USDT", f"{n}-USDT", "spot") for m, n in ((A, "A"), (B, "B"), (C, "C"))]
PAUSED = msgspec.structs.replace(MARKETS[2], status="Paused")
NOW = 1_000.0


def test_before_any_report_all_markets_are_pending_and_nothing_is_covered() -> None:
    coverage = Coverage(MARKETS)
    assert coverage.counts(NOW) == {"pending": 3}
    assert coverage.coverage(NOW) == 0.0
    assert coverage.completeness() == 0.0
    assert Coverage([]).coverage(NOW) == 0.0


def test_a_quiet_market_is_live_because_it_hears_empty_blocks() -> None:
    coverage = Coverage(MARKETS)
    coverage.report(report(row(A, 100, 150), row(B, 100, 150), row(C, 100, 150)), NOW)
    assert coverage.counts(NOW) == {"live": 3}
    assert coverage.coverage(NOW) == 1.0


def test_a_stale_market_is_not_covered_however_much_it_received_before() -> None:
    coverage = Coverage(MARKETS)
    rows = (row(A, 100, 150), row(B, 100, 120, state="stale"), row(C, 100, 150, state="syncing"))
    coverage.report(report(*rows), NOW)
    assert coverage.counts(NOW) == {"live": 1, "stale": 1, "syncing": 1}
    assert coverage.coverage(NOW) == pytest.approx(1 / 3)


def test_a_market_that_is_not_active_is_not_counted() -> None:
    coverage = Coverage([*MARKETS[:2], PAUSED])
    coverage.report(report(row(A, 1, 9), row(B, 1, 9), row(C, state="pending")), NOW)
    assert coverage.counts(NOW) == {"live": 2, "inactive": 1}
    assert coverage.coverage(NOW) == 1.0


def test_a_market_paused_while_running_is_no_longer_counted() -> None:
    coverage = Coverage(MARKETS)
    coverage.report(report(row(A, 1, 9), row(B, 1, 9), row(C, 1, 5, state="stale")), NOW)
    coverage.statuses({C: "Paused"})
    assert coverage.coverage(NOW) == 1.0
    assert [coverage.status(m.market_id) for m, _ in coverage.shown()] == [
        "Active",
        "Active",
        "Paused",
    ]


@pytest.mark.parametrize(("silent_s", "live"), [(SILENT_S - 0.1, 3), (SILENT_S + 0.1, 1)])
def test_a_silent_shards_word_is_not_taken_for_its_markets(silent_s: float, live: int) -> None:
    coverage = Coverage(MARKETS)
    coverage.report(report(row(A, 1, 9), row(B, 1, 9), shard=0), NOW)
    coverage.account(report(row(A, 1, 9)))
    coverage.report(report(row(C, 1, 9), shard=1), NOW + silent_s)
    counts = coverage.counts(NOW + silent_s)
    assert counts["live"] == live
    if live == 1:
        assert counts == {"live": 1, "stale": 1, "pending": 1}, "B never had a block accounted for"


@pytest.mark.parametrize("how", ["silence", "fresh"])
def test_a_shard_whose_process_is_gone_covers_nothing_at_once(how: str) -> None:
    coverage = Coverage(MARKETS)
    coverage.report(report(*(row(m, 1, 9) for m in (A, B, C))), NOW)
    getattr(coverage, how)(0)
    assert coverage.coverage(NOW) == 0.0


def test_the_mean_weighs_each_coverage_by_how_long_it_held() -> None:
    coverage = Coverage(MARKETS[:2])
    assert coverage.mean == 0.0
    coverage.report(report(row(A, 1, 9), row(B, 1, 9)), NOW)
    coverage.sample(NOW)
    coverage.report(report(row(A, 1, 10), row(B, 1, 10)), NOW + 1)
    coverage.sample(NOW + 1)
    coverage.report(report(row(A, 1, 11), row(B, 1, 10, state="stale")), NOW + 4)
    coverage.sample(NOW + 4)
    assert coverage.mean == pytest.approx((1 * 1.0 + 3 * 0.5) / 4)


def test_completeness_adds_up_the_ledgers_of_all_markets() -> None:
    coverage = Coverage(MARKETS)
    coverage.account(report(row(A, 100, 199), row(B, 150, 199, replayed=((160, 169),))))
    coverage.account(report(row(C, 100, 149, replayed=((101, 101),), missing=((120, 129),))))
    assert coverage.blocks() == BlockCounts(
        first=100, last=199, due=200, received=179, replayed=11, missing=10
    )
    assert coverage.completeness() == pytest.approx(190 / 200)
    assert coverage.holes() == [Hole(symbol="C-USDT", heights=[(120, 129)])]
    assert coverage.accounted() == 149


def test_a_block_is_due_everywhere_a_grace_after_the_first_market_had_it() -> None:
    coverage = Coverage(MARKETS[:2])
    coverage.account(report(row(A, 100, 110), row(B, 100, 104, state="stale")))
    coverage.report(report(row(A, 100, 110), row(B, 100, 104, state="stale")), NOW)
    coverage.sample(NOW + GRACE_S - 0.1)
    assert coverage.completeness() == 1.0
    coverage.sample(NOW + GRACE_S)
    assert coverage.blocks().missing == 6
    assert coverage.completeness() == pytest.approx(16 / 22)
    assert coverage.holes() == [Hole(symbol="B-USDT", heights=[(105, 110)])]
    coverage.account(report(row(B, 100, 110, replayed=((105, 110),))))
    assert coverage.completeness() == 1.0
    assert coverage.holes() == []


def test_a_market_that_has_not_joined_owes_no_block_and_offers_no_resume_point() -> None:
    coverage = Coverage(MARKETS[:2])
    coverage.account(report(row(A, 100, 110, missing=((105, 105),)), row(B)))
    assert coverage.blocks().due == 11
    points = coverage.resume_points([A, B, "0xunknown"])
    assert list(points) == [A]
    assert (points[A].first, points[A].last, points[A].missing) == (100, 110, [(105, 105)])


def gap(gap_id: int, state: Literal["open", "closed"], first: int = 5, last: int = 0) -> Gap:
    return Gap(A, gap_id, state, "disconnect", first, last, gap_id)


def test_gaps_are_counted_as_they_are_announced() -> None:
    coverage = Coverage(MARKETS[:1])
    coverage.gap(gap(10, "open"))
    assert coverage.gaps() == Gaps(opened=1, closed=0, open=1)
    coverage.gap(gap(10, "closed"))
    coverage.gap(gap(20, "open"))
    coverage.gap(gap(20, "open", 6, 7))
    assert coverage.gaps() == Gaps(opened=2, closed=1, open=1), "told again with its heights"


def test_a_shard_takes_over_the_gap_that_its_predecessor_left_open() -> None:
    coverage = Coverage(MARKETS[:1])
    coverage.account(report(row(A, 1, 9), epoch=1))
    assert coverage.resume_points([A])[A].gap is None
    coverage.gap(gap(10, "open"))
    assert coverage.resume_points([A])[A].gap == gap(10, "open")


def test_a_market_that_comes_back_gives_no_reason_of_its_absence() -> None:
    coverage = Coverage(MARKETS[:1])
    coverage.disown(A)
    assert coverage.states[A].reason
    coverage.own(A, 0, within=100)
    assert (coverage.states[A].state, coverage.states[A].reason) == ("pending", "")


def test_a_shard_whose_aggregator_died_too_has_some_blocks_again() -> None:
    coverage = Coverage(MARKETS[:1])
    coverage.account(report(row(A, 100, 150, replayed=((120, 149),))))
    point = coverage.resume_points([A], again=8)[A]
    assert (point.last, point.replayed) == (142, [(120, 142)])
    assert coverage.resume_points([A], again=80)[A].last == 99


def saved(coverage: Coverage) -> list[MarketState]:
    """What the next aggregator reads from the file that this one wrote."""
    states = msgspec.msgpack.encode(list(coverage.states.values()))
    return msgspec.msgpack.decode(states, type=list[MarketState])


def test_the_ledger_outlives_the_aggregator() -> None:
    former = Coverage(MARKETS)
    former.report(report(row(A, 100, 150, missing=((120, 121),))), NOW)
    former.account(report(row(A, 100, 150, missing=((120, 121),))))
    coverage = Coverage(MARKETS[:2], saved(former))
    assert coverage.blocks() == former.blocks()
    assert coverage.head == 150
    assert coverage.resume_points([A])[A].last == 150
    assert coverage.counts(NOW) == {"stale": 1, "pending": 1}, "nobody has vouched for it yet"
    assert C not in coverage.states


def test_a_restarted_aggregator_does_not_count_a_gap_that_it_is_told_again() -> None:
    former = Coverage(MARKETS[:1])
    for event in (gap(10, "open"), gap(10, "closed"), gap(20, "open")):
        former.gap(event)
    coverage = Coverage(MARKETS[:1], saved(former))
    for event in (gap(10, "open"), gap(10, "closed"), gap(20, "open"), gap(20, "closed")):
        coverage.gap(event)
    assert coverage.gaps() == Gaps(opened=2, closed=2, open=0)


def test_a_glance_says_of_every_market_where_it_is_and_how_it_stands() -> None:
    coverage = Coverage([*MARKETS[:2], CHAIN])
    coverage.report(report(row(A, 1, 9), shard=4), NOW)
    assert coverage.glance(NOW, {A: 7}) == [
        ("A-USDT", "live", 4, "", 7),
        ("B-USDT", "pending", -1, "", 0),
    ]


def test_the_markets_that_people_see_are_all_but_the_chains_feed() -> None:
    coverage = Coverage([*MARKETS[:2], CHAIN])
    coverage.report(report(row(A, 1, 9), shard=4), NOW)
    coverage.account(report(row(A, 1, 9), shard=4))
    (_, first), (_, second) = coverage.shown()
    assert (first.shard, coverage.state_of(first, NOW), first.last) == (4, "live", 9)
    assert (second.shard, coverage.state_of(second, NOW), second.last) == (-1, "pending", 0)
    assert [market.symbol for market, _ in coverage.shown({"B-USDT"})] == ["B-USDT"]


def test_the_chains_own_feed_is_resumed_like_a_market_but_counts_as_none() -> None:
    coverage = Coverage([*MARKETS, CHAIN])
    coverage.report(report(row("chain", 10, 20), shard=0), NOW)
    coverage.account(report(row("chain", 10, 20), shard=0))
    assert coverage.chain_feed(NOW) == ChainFeed(state="live", shard=0, height=20)
    assert sum(coverage.counts(NOW).values()) == len(MARKETS)
    assert "chain" not in {market.market_id for market, _ in coverage.shown()}
    assert coverage.resume_points(["chain"])["chain"].last == 20
    assert Coverage(MARKETS).chain_feed(NOW) is None


def test_a_market_that_is_far_behind_continues_its_ledger_unless_it_was_removed() -> None:
    former = Coverage(MARKETS[:3])
    former.account(report(row(A, 100, 150), row(B, 100, 900), row(C, 100, 150), shard=0))
    former.disown(C)
    coverage = Coverage(MARKETS[:3], saved(former))
    for market_id in (A, B, C):
        coverage.own(market_id, 1, within=40)
    assert coverage.states[A].first == 100
    assert coverage.resume_points([A])[A].last == 150
    # Its blocks were not collected on purpose.
    assert coverage.states[C].first == 0


def test_a_market_that_moves_and_is_cut_often_has_a_small_ledger_that_counts_exactly() -> None:
    coverage, last, replayed = Coverage(MARKETS[:1]), 99, 0
    for owner in range(3):
        begun, ours = last + 1, []
        if owner:
            coverage.hand_over(A, owner, epoch=owner)
            # Lost while it joined: the owner before it had these.
            ours.append((begun - 5, begun - 4))
        for _ in range(200):
            last += 50
            replayed += 3
            ours.append((last - 30, last - 28))
            row_of = row(A, max(100, begun - 20), last, replayed=tuple(ours))
            coverage.account(report(row_of, shard=owner, epoch=owner))
            found = coverage.blocks()
            assert (found.due, found.replayed, found.missing) == (last - 99, replayed, 0)
    assert len(coverage.states[A].replayed) <= 128
    assert len(coverage.resume_points([A])[A].replayed) <= 64


def test_a_market_removed_before_it_joined_keeps_no_block_from_being_judged() -> None:
    coverage = Coverage(MARKETS[:2])
    said = report(row(A, 100, 150), row(B, state="failed"))
    coverage.report(said, NOW)
    coverage.account(said)
    assert coverage.joined_from() == 0
    coverage.disown(B)
    assert coverage.joined_from() == 100
