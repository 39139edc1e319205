"""How active a market is: what is made of evidence, and of what is heard afterwards."""

import pytest
from hypothesis import given, strategies as st

from collector.aggregator.telemetry.activity_meter import OF_LATE_S, ActivityMeter, Counts
from collector.markets import activity
from collector.markets.activity import LEVELS, Level
from shards.adapters.interface import Evidence
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Market

BUSY = Evidence(has_book=True, moved=True, volume=100.0, blocks=1000)
STILL = Evidence(has_book=True, moved=False, volume=0.0, blocks=1000)
EMPTY = Evidence(has_book=False, moved=False, volume=0.0, blocks=1000)


def market(name: str) -> Market:
    return Market(f"0x{name}", name, name, "spot")


MARKETS = [market(name) for name in "abcdef"]
ASSESSED = {
    "0xa": STILL,
    "0xb": EMPTY,
    "0xc": BUSY,
    "0xd": Evidence(has_book=True, moved=True, volume=900.0, blocks=1000),
    "0xe": BUSY,
    # Nobody could say anything of f.
}


@pytest.mark.parametrize(
    ("evidence", "level"),
    [
        (BUSY, "active"),
        (STILL, "quiet"),
        (EMPTY, "dead"),
        (Evidence(has_book=False, moved=False, volume=5.0), "quiet"),
        (Evidence(has_book=False, moved=True, volume=5.0), "active"),
        (Evidence(has_book=False), "dead"),
        (Evidence(has_book=True), "active"),
        (Evidence(moved=False), "quiet"),
        (Evidence(), "active"),
    ],
)
def test_a_level_follows_from_what_is_known(evidence: Evidence, level: Level) -> None:
    assert activity.level(evidence) == level


def names(markets: list[Market]) -> str:
    return "".join(one.ticker for one in markets)


@pytest.mark.parametrize(
    ("least", "top", "chosen"),
    [
        (None, None, "abcdef"),
        ("dead", None, "abcdef"),
        ("quiet", None, "acdef"),
        ("active", None, "cdef"),
        (None, 1, "d"),
        (None, 3, "cde"),
        ("active", 2, "cd"),
        ("quiet", 50, "acdef"),
    ],
)
def test_markets_are_chosen_by_how_active_they_are(
    least: Level | None, top: int | None, chosen: str
) -> None:
    assert names(activity.choose(MARKETS, ASSESSED, least=least, top=top)) == chosen


def test_nothing_as_active_as_asked_is_said_in_a_sentence() -> None:
    with pytest.raises(
        ConfigError, match="none of 2 markets is as active as --min-activity active"
    ):
        activity.choose(MARKETS[:2], ASSESSED, least="active")


def test_the_liveliest_go_first_and_equals_keep_their_order() -> None:
    assert names(activity.liveliest_first(MARKETS, ASSESSED)) == "dcefab"


def test_weights_follow_what_a_block_costs() -> None:
    weights = activity.weights(MARKETS, ASSESSED)
    assert weights["0xa"] == weights["0xb"] == 1.0
    assert weights["0xc"] == weights["0xe"] == weights["0xf"] == 4.0
    assert weights["0xd"] == 7.0


@given(
    st.lists(
        st.builds(
            Evidence,
            has_book=st.sampled_from([None, False, True]),
            moved=st.sampled_from([None, False, True]),
            volume=st.none() | st.floats(0, 1e30),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_any_evidence_has_a_level_and_a_weight(evidence: list[Evidence]) -> None:
    markets = [market(str(n)) for n in range(len(evidence))]
    assessed = {m.market_id: e for m, e in zip(markets, evidence, strict=True)}
    assert sum(activity.count(markets, assessed).values()) == len(markets)
    weights = activity.weights(markets, assessed)
    assert all(1.0 <= weight <= 7.0 for weight in weights.values())
    chosen = activity.choose(markets, assessed, least="dead", top=3)
    assert len(chosen) == min(3, len(markets))
    assert all(activity.level(e) in LEVELS for e in evidence)


# ---- while running --------------------------------------------------------------------


def counts(*, updates: int = 0, trades: int = 0, sequence: int = 0) -> dict[str, Counts]:
    return {"0xa": Counts(trades, updates, sequence)}


def test_a_quiet_market_that_changes_is_active_until_it_has_been_silent_for_long() -> None:
    alive = ActivityMeter({"0xa": STILL})
    alive.look(counts(updates=1, sequence=7), 0.0)
    assert alive.level("0xa", 0.0) == "quiet"
    alive.look(counts(updates=2, sequence=8), 1.0)
    assert alive.level("0xa", 1.0) == "active"
    assert alive.level("0xa", 1.0 + OF_LATE_S) == "active"
    assert alive.level("0xa", 1.1 + OF_LATE_S) == "quiet"


def test_a_book_that_is_fetched_anew_is_no_sign_of_life() -> None:
    alive = ActivityMeter({"0xa": STILL})
    for now in range(10):
        alive.look(counts(updates=now, sequence=7), float(now))
    assert alive.level("0xa", 9.0) == "quiet"


def test_a_market_that_was_active_and_is_silent_ever_since_becomes_quiet() -> None:
    alive = ActivityMeter({"0xa": BUSY})
    alive.look(counts(), 0.0)
    assert alive.level("0xa", OF_LATE_S) == "active"
    assert alive.level("0xa", OF_LATE_S + 1) == "quiet"


@pytest.mark.parametrize("evidence", [EMPTY, STILL])
def test_silence_says_nothing_new_of_a_market_that_was_silent_before(evidence: Evidence) -> None:
    alive = ActivityMeter({"0xa": evidence})
    alive.look(counts(), 0.0)
    assert alive.level("0xa", 1e6) == activity.level(evidence)


def test_pace_and_weight_are_those_of_the_last_minute() -> None:
    alive = ActivityMeter({"0xa": BUSY})
    for now in range(600):
        alive.look(counts(updates=now * 2, sequence=1 + now), float(now))
    row = alive.measured("0xa", 600.0, 0.5)
    assert row.changes_per_s == pytest.approx(2.0, rel=0.01)
    assert row.weight == pytest.approx(4.0, rel=0.01)
    for now in range(600, 900):
        alive.look(counts(updates=1198, sequence=600), float(now))
    assert alive.measured("0xa", 900.0, 0.5).weight == pytest.approx(1.0, abs=0.05)


def test_a_market_that_is_silent_on_the_chain_that_replaced_its_own_is_not_active() -> None:
    alive = ActivityMeter({"0xa": STILL})
    for now in range(60):
        alive.look(counts(updates=now * 2, sequence=1 + now), float(now))
    for now in range(60, 660):
        # All topics are new, and this market's have no frame yet; then its book is fetched.
        alive.look(counts() if now < 600 else counts(updates=1, sequence=5), float(now))
    row = alive.measured("0xa", 660.0, 0.5)
    assert row.changes_per_s == pytest.approx(0.0, abs=0.01)
    assert row.level == "quiet"


def test_the_pace_is_the_same_for_markets_that_are_looked_at_in_turn() -> None:
    alive = ActivityMeter({})
    for now in range(0, 600, 3):
        turn = "0xa" if now % 2 else "0xb"
        alive.look({turn: Counts(0, now * 2, 1 + now)}, float(now))
    for market_id in ("0xa", "0xb"):
        assert alive.measured(market_id, 600.0, 0.5).changes_per_s == pytest.approx(2.0, rel=0.05)


def test_a_market_that_nobody_assessed_can_be_described() -> None:
    assert ActivityMeter({}).measured("0xnew", 5.0, 0.0) == ("active", 0.0, 1.0, None, 0)
