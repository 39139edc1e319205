"""Orders one after the other, listings, and the shard that does too much."""

from typing import Any

import msgspec
import pytest

from collector.aggregator.coordination import PendingCommand
from collector.control.desired_state import DesiredState, Selection
from collector.control.placement import Assignment
from collector.markets.selection import with_symbols
from collector.settings.parts import Supervision
from shards.protocol.settings import CHAIN, Market

TICKERS = ["INJ/USDT", "BTC/USDT", "ETH/USDT", "BTC/USDT PERP"]
FOUND = with_symbols(
    [
        Market(f"0x{n:064x}", ticker, "", "derivative" if "PERP" in ticker else "spot")
        for n, ticker in enumerate(TICKERS)
    ]
)
NEW = Market(f"0x{77:064x}", "ATOM/USDT", "ATOM-USDT", "spot")
LIMITS = Supervision(over_budget_s=30.0, rebalance_rest_s=100.0)


def desired(*patterns: str, shards: int = 2, markets: int = 4, **options: Any) -> DesiredState:
    wanted = {market.market_id: n % shards for n, market in enumerate(FOUND[:markets])}
    selected = Selection(patterns)
    assignment = Assignment(frozenset(range(shards)), wanted)
    return DesiredState(FOUND, assignment, selected, LIMITS, **options)


def order(kind: str, **fields: Any) -> PendingCommand:
    return PendingCommand(f"{kind}-{fields}", {"kind": kind, **fields})


def arrive(mine: DesiredState) -> None:
    """Everything is where it belongs."""
    mine.arrived([], mine.assignment.shards, mine.revision, 0.0)


def look(mine: DesiredState, now: float, use: dict[int, tuple[float, float]]) -> int | None:
    return mine.overload.look(now, use, is_busy=mine.is_busy)


def symbols(mine: DesiredState) -> set[str]:
    return {market.symbol for market in mine.markets}


# ---- orders -------------------------------------------------------------------------------


def test_an_order_is_done_when_it_shows_and_the_next_one_waits_for_that() -> None:
    mine = desired()
    first, second = order("scale", number=3), order("drain", number=0)
    mine.order([first, second], {}, 0.0)
    revision = mine.revision
    assert mine.is_busy
    assert mine.commands.answers[first.token]["state"] == "moving"
    mine.arrived([], [0, 1, 2], revision - 1, 0.0)
    mine.arrived(["0xmoving"], [0, 1, 2], revision, 0.0)
    mine.arrived([], [0, 1], revision, 59.0)
    assert mine.commands.answers[first.token]["state"] == "moving", "not before it shows"
    assert second.token not in mine.commands.answers
    arrive(mine)
    done = mine.commands.answers[first.token]
    assert done == {
        "state": "done",
        "text": "moved 1 market: 4 markets, shard 0: 1, shard 1: 2, shard 2: 1",
    }
    mine.order([first, second], {}, 0.0)
    assert mine.commands.answers[second.token]["state"] == "moving"
    assert mine.spare([0, 1, 2], {0: 1, 1: 2}, mine.revision) == [], "it still has a market"
    assert mine.spare([0, 1, 2], {0: 0, 1: 2, 2: 2}, mine.revision) == [0]
    assert mine.spare([0, 1, 2], {0: 0}, mine.revision - 1) == [], "that is of another assignment"


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (order("remove", markets=["*"]), "no market would be left"),
        (order("remove", markets=["ATOM/USDT"]), "no market matches 'ATOM/USDT'"),
        (order("add", markets=["INJ/USDT"]), "INJ-USDT is collected already"),
        (order("drain", number=5), "there is no shard 5"),
        (order("scale", number=9), "no more than the 4 markets"),
        (order("dance"), "Invalid enum value 'dance'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(asked: PendingCommand, why: str) -> None:
    mine = desired()
    mine.order([asked], {}, 0.0)
    if mine.commands.wants_listing:
        mine.listed(FOUND, 1)
        mine.order([asked], {}, 0.0)
    assert mine.commands.answers[asked.token]["state"] == "refused"
    assert why in mine.commands.answers[asked.token]["text"]
    assert (mine.revision, mine.is_busy) == (1, False)


def test_a_market_that_never_goes_live_does_not_keep_later_orders_waiting_for_ever() -> None:
    mine = desired()
    first, second = order("scale", number=3), order("remove", markets=["INJ/USDT"])
    stuck, running = [FOUND[0].market_id], [0, 1, 2]
    mine.order([first, second], {}, 100.0)
    for now in (110.0, 159.0):
        mine.arrived(stuck, running, mine.revision, now)
        mine.order([first, second], {}, now)
    assert second.token not in mine.commands.answers
    mine.arrived(stuck, running, mine.revision, 160.0)
    assert not mine.is_busy, "and a shard that is overloaded is relieved again"
    mine.order([first, second], {}, 160.0)
    assert [mine.commands.answers[one.token]["state"] for one in (first, second)] == ["moving"] * 2
    mine.arrived([], running, mine.revision, 170.0)
    assert [mine.commands.answers[one.token]["state"] for one in (first, second)] == ["done"] * 2
    assert [note.split()[0] for note in mine.notes] == ["moved", "removed"]


def test_the_answers_of_months_are_bounded_and_the_newest_are_kept() -> None:
    mine = desired()
    asked = [order("drain", number=5 + n) for n in range(1_000)]
    for one in asked:
        mine.order([one], {}, 0.0)
    assert len(mine.commands.answers) == 200
    assert all(one.token in mine.commands.answers for one in asked[-200:])


def test_the_last_market_is_not_removed_though_one_that_is_no_longer_listed_is_shown() -> None:
    mine = desired("INJ/USDT", "BTC/USDT", markets=2)
    for through in (1, 2):
        mine.listed(FOUND[1:], through)
    asked = order("remove", markets=["BTC/USDT"])
    mine.order([asked], {}, 0.0)
    assert mine.commands.answers[asked.token]["text"].startswith("no market would be left")
    assert list(mine.assignment.wanted) == [FOUND[1].market_id]


def test_a_market_that_was_listed_a_moment_ago_is_found_by_looking_again() -> None:
    mine = desired("INJ/USDT", shards=1, markets=1)
    asked = order("add", markets=["atom/usdt"])
    mine.order([asked], {}, 0.0)
    assert mine.commands.wants_listing
    assert asked.token not in mine.commands.answers
    mine.listed([*FOUND, NEW], 50)
    assert NEW.symbol not in symbols(mine), "the selection leaves it out"
    mine.order([asked], {}, 0.0)
    arrive(mine)
    assert mine.commands.answers[asked.token]["text"] == "added ATOM-USDT: 2 markets, shard 0: 2"


def test_what_was_removed_stays_away_until_it_is_added() -> None:
    mine = desired()
    mine.order([order("remove", markets=["btc*"])], {}, 0.0)
    arrive(mine)
    assert symbols(mine) == {"INJ-USDT", "ETH-USDT"}
    assert not mine.every_market
    mine.listed(FOUND, 10)
    assert symbols(mine) == {"INJ-USDT", "ETH-USDT"}
    mine.order([order("add", markets=["BTC-USDT"])], {}, 0.0)
    assert symbols(mine) == {"INJ-USDT", "ETH-USDT", "BTC-USDT"}
    assert mine.assignment.sizes() == {0: 2, 1: 1}


def test_a_rebalance_goes_by_what_the_markets_bring() -> None:
    mine = desired()
    weights = {market.market_id: 1.0 for market in FOUND} | {FOUND[0].market_id: 20.0}
    mine.order([order("rebalance")], weights, 0.0)
    assert mine.of(0) == (FOUND[0],)
    arrive(mine)
    again = order("rebalance", number=1)
    mine.order([again], weights, 0.0)
    arrive(mine)
    assert mine.commands.answers[again.token]["text"].startswith("nothing to move")


# ---- listings -----------------------------------------------------------------------------


def test_a_new_listing_goes_to_the_least_loaded_shard() -> None:
    mine = desired()
    mine.order([order("remove", markets=["ETH/USDT"])], {}, 0.0)
    arrive(mine)
    mine.listed([*FOUND, NEW], 99)
    assert mine.assignment.wanted[NEW.market_id] == 0
    assert mine.listed_through == 99
    assert list(mine.notes)[-1] == "ATOM-USDT is newly listed: collecting it"


@pytest.mark.parametrize(
    ("patterns", "takes"), [((), True), (("*/USDT",), True), (("INJ/USDT",), False)]
)
def test_a_new_listing_is_taken_where_the_choice_of_markets_takes_it_in(
    patterns: tuple[str, ...], takes: bool
) -> None:
    mine = desired(*patterns)
    mine.listed([*FOUND, NEW], 1)
    assert (NEW.symbol in symbols(mine)) is takes
    assert mine.every_market is takes, "the proof must not speak of markets that we do not collect"


def test_markets_keep_their_symbols_when_another_takes_the_same_ticker() -> None:
    mine = desired()
    twin = msgspec.structs.replace(NEW, ticker="INJ/USDT", symbol="INJ-USDT-00000000")
    mine.listed([msgspec.structs.replace(FOUND[0], symbol="INJ-USDT-0"), *FOUND[1:], twin], 1)
    assert symbols(mine) == {*(market.symbol for market in FOUND), "INJ-USDT-00000000"}


def test_a_market_is_retired_when_it_is_missing_twice_and_comes_back_when_it_is_listed() -> None:
    mine = desired()
    gone = FOUND[1].market_id
    rest = [market for market in FOUND if market.market_id != gone]
    mine.listed(rest, 1)
    assert gone in mine.assignment.wanted
    assert mine.statuses[gone] == "Gone"
    mine.listed([], 2)
    assert gone in mine.assignment.wanted, "nobody believes a node that knows no market at all"
    mine.listed(rest, 3)
    assert gone not in mine.assignment.wanted
    assert mine.statuses[gone] == "Gone", "it is still shown"
    assert mine.every_market
    mine.listed(FOUND, 4)
    assert gone in mine.assignment.wanted
    assert len(mine.markets) == 4


def test_new_ticks_or_fees_are_passed_on_and_a_new_status_alone_is_not() -> None:
    mine = desired()
    paused = msgspec.structs.replace(FOUND[0], status="Paused")
    mine.listed([paused, *FOUND[1:]], 1)
    assert (mine.revision, mine.statuses[paused.market_id]) == (1, "Paused")
    dearer = msgspec.structs.replace(paused, taker_fee_rate="0.002")
    mine.listed([dearer, *FOUND[1:]], 2)
    assert mine.revision == 2
    assert dearer in mine.markets
    mine.listed([dearer, *FOUND[1:]], 3)
    assert mine.revision == 2


# ---- budgets ------------------------------------------------------------------------------


def test_a_shard_is_relieved_after_long_enough_over_its_budget_and_then_all_rest() -> None:
    mine = desired()
    hot, cool = (90.0, 0.0), (20.0, 0.0)
    assert look(mine, 0.0, {0: hot, 1: cool}) is None
    assert look(mine, 20.0, {0: (50.0, 0.0), 1: cool}) is None
    assert look(mine, 25.0, {0: hot, 1: cool}) is None
    assert look(mine, 40.0, {0: (80.0, 0.0), 1: cool}) is None
    assert look(mine, 54.0, {0: hot, 1: cool}) is None, "a good moment counts from there"
    assert look(mine, 56.0, {0: hot, 1: cool}) == 0
    mine.ease(0, 56.0, {0: 90.0, 1: 20.0}, {})
    assert mine.assignment.sizes() == {0: 1, 1: 3}
    assert look(mine, 100.0, {0: hot, 1: cool}) is None
    assert look(mine, 157.0, {0: hot, 1: cool}) == 0


def test_a_late_loop_counts_like_a_busy_one() -> None:
    mine = desired()
    assert look(mine, 0.0, {0: (10.0, 0.6), 1: (10.0, 0.0)}) is None
    assert look(mine, 31.0, {0: (10.0, 0.6), 1: (10.0, 0.0)}) == 0


def test_where_no_shard_has_room_the_log_says_what_helps() -> None:
    mine = desired()
    mine.ease(0, 0.0, {0: 90.0, 1: 88.0}, {})
    assert "collector scale" in mine.notes[-1]
    assert mine.revision == 1


def test_the_chains_own_feed_is_never_told_as_a_market() -> None:
    wanted = {market.market_id: n % 2 for n, market in enumerate([*FOUND[:3], CHAIN])}
    found = [*FOUND, CHAIN]
    mine = DesiredState(found, Assignment(frozenset((0, 1)), wanted), Selection(("INJ*",)), LIMITS)
    refused, added, scaled = (
        order("add", markets=["chain"]),
        order("add", markets=["*"]),
        order("scale", number=1),
    )
    # The first one is looked up in a new listing before it is refused.
    mine.order([refused], {}, 0.0)
    mine.listed(FOUND, 5)
    mine.order([refused], {}, 0.0)
    assert mine.commands.answers[refused.token]["text"].startswith("no market matches 'chain'")
    mine.order([added], {}, 0.0)
    arrive(mine)
    text = mine.commands.answers[added.token]["text"]
    assert text.startswith("added BTC-USDT-PERP: 4 markets, shard 0: ")
    mine.order([scaled], {}, 0.0)
    assert mine.commands.answers[scaled.token]["text"].endswith(": 4 markets, shard 0: 4")
