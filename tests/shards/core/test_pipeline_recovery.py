"""What is replayed: after another process's death, and after frames were dropped."""

import msgspec
import pytest

from shards.core.record_builder import NeedReplay, NeedSnapshot
from shards.core.states import State
from shards.protocol.events import Gap
from shards.protocol.frames import KIND_GAP, SNAPSHOT
from shards.protocol.ledger import MarketLedger
from tests.shards.chain import FIRST
from tests.shards.one_market import CHAIN, ONE, SECOND, gaps, hear, live, pipeline, state, subscribe

# ---- a former process ---------------------------------------------------------------------------


def test_a_resumed_market_asks_for_the_book_at_its_last_height_and_opens_a_gap() -> None:
    one = pipeline(MarketLedger(FIRST, FIRST + 5))
    one.resume(SECOND)
    assert one.take_requests() == [NeedSnapshot(ONE, FIRST + 5)]
    assert gaps(one) == [("open", "crash", FIRST + 6, 0)]


def test_a_resumed_market_is_not_live_before_it_has_heard_a_block() -> None:
    one = pipeline(MarketLedger(FIRST, FIRST + 5))
    one.resume(SECOND)
    subscribe(one)
    assert one.join(CHAIN.snapshot(ONE, FIRST + 5), SECOND)
    assert state(one) is not State.LIVE
    assert [gap[0] for gap in gaps(one)] == ["open"]
    hear(one, FIRST + 8)
    assert one.liveness.due_replays(10) == [FIRST + 6, FIRST + 7]


def test_a_resumed_market_closes_the_gap_that_its_predecessor_left_open() -> None:
    one = pipeline(MarketLedger(FIRST, FIRST + 5))
    left = Gap(ONE, 77, "open", "disconnect", FIRST + 4, 0, 77)
    one.resume(SECOND, {ONE: left})
    subscribe(one)
    assert one.join(CHAIN.snapshot(ONE, FIRST + 5), SECOND)
    hear(one, FIRST + 6)
    assert state(one) is State.LIVE
    assert gaps(one) == [("closed", "disconnect", FIRST + 4, FIRST + 6)]


def test_lost_blocks_change_no_book_that_is_not_collected() -> None:
    one = pipeline(MarketLedger(FIRST, FIRST + 5), channels=("trades",))
    one.resume(SECOND)
    subscribe(one)
    for height in range(FIRST + 20, FIRST + 30):
        one.receive(CHAIN.payload(1, height, (ONE,), with_books=False), height * SECOND)
    for height in range(FIRST + 6, FIRST + 20):
        one.liveness.replay(height, CHAIN.whole(height), FIRST * SECOND)
    assert state(one) is State.LIVE
    assert one.feeds[ONE].accounted().last == FIRST + 29
    assert gaps(one)[-1] == ("closed", "crash", FIRST + 6, FIRST + 29)


def test_a_market_that_returns_with_a_new_ledger_names_what_was_not_collected() -> None:
    one = pipeline()
    left = Gap(ONE, 77, "open", "removed", FIRST, 0, 77)
    one.resume(SECOND, {ONE: left})
    subscribe(one)
    hear(one, FIRST + 9)
    assert one.join(CHAIN.snapshot(ONE, FIRST + 9), SECOND)
    assert state(one) is State.LIVE
    # It stays open: nothing of it was replayed.
    assert gaps(one) == [("open", "removed", FIRST, FIRST + 8)]


def test_a_height_that_was_taken_over_says_nothing_of_the_pace() -> None:
    one = pipeline(MarketLedger(FIRST, FIRST + 5))
    one.resume(SECOND)
    subscribe(one)
    hear(one, FIRST + 6)
    assert one.block_time_s == 0.0
    hear(one, FIRST + 7)
    assert one.block_time_s == pytest.approx(1.0)


# ---- frames that were dropped -----------------------------------------------------------------


def test_dropped_frames_are_had_again_from_their_first_height() -> None:
    one = live()
    hear(one, *range(FIRST + 1, FIRST + 9))
    dropped = [record for record in one.take_records() if record.height > FIRST + 4]
    assert one.dropped(dropped, 200 * SECOND) == len(dropped)
    first = dropped[0].height
    assert one.liveness.due_replays(10) == list(range(first, FIRST + 9))
    assert NeedSnapshot(ONE, first - 1) in one.take_requests()
    assert gaps(one) == [("open", "drop", first, 0)]


def test_a_dropped_book_from_ahead_of_the_blocks_is_fetched_again() -> None:
    one = pipeline()
    subscribe(one)
    hear(one, FIRST)
    assert one.join(CHAIN.snapshot(ONE, FIRST + 9), SECOND)
    one.take_requests()
    snapshots = [r for r in one.take_records() if r.flags & SNAPSHOT]
    assert one.dropped(snapshots, SECOND) == 1
    assert one.wants_snapshot(ONE)
    assert state(one) is State.SYNCING
    # It was the first, and stood for the changes of the blocks before it: they come again as well.
    assert one.take_requests() == [NeedSnapshot(ONE, FIRST - 1), NeedReplay()]
    assert one.liveness.due_replays(10) == [FIRST]


def test_a_dropped_book_from_before_the_first_block_does_not_widen_what_is_due() -> None:
    one = pipeline()
    subscribe(one)
    hear(one, FIRST + 5)
    assert one.join(CHAIN.snapshot(ONE, FIRST + 4), SECOND)
    one.dropped(one.take_records(), SECOND)
    while due := one.liveness.due_replays(1):
        one.liveness.replay(due[0], CHAIN.whole(due[0]), SECOND)
    ledger = one.feeds[ONE].ledger
    assert ledger.first == FIRST + 5
    assert ledger.received + len(ledger.replayed) == ledger.due == 1


def test_gaps_among_dropped_frames_are_announced_again_unless_nobody_need_hear_of_them() -> None:
    one = live()
    hear(one, FIRST + 2)
    opened = one.take_records()
    one.dropped(opened, SECOND)
    assert gaps(one)[0] == ("open", "height", FIRST + 1, 0)
    one.liveness.replay(FIRST + 1, CHAIN.whole(FIRST + 1), SECOND)
    closed = [r for r in one.take_records() if r.kind == KIND_GAP]
    assert [msgspec.msgpack.decode(r.event, type=Gap).state for r in closed] == ["closed"]
    one.dropped(closed, SECOND)
    assert gaps(one) == [("closed", "height", FIRST + 1, FIRST + 2)]
    one.dropped([*opened, *closed], SECOND)
    assert [gap for gap in gaps(one) if gap[1] == "height"] == []
