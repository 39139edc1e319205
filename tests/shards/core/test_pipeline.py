"""The pipeline's rules one by one; test_pipeline_truth.py has them all at once."""

import msgspec
import pytest

from shards.adapters.injective_chain import ws_decoder
from shards.core.block_slices import split
from shards.core.blocks import block_pipeline
from shards.core.record_builder import NeedReplay, NeedSnapshot, NeedSubscription
from shards.core.states import State
from shards.protocol.errors import DecodeError
from shards.protocol.events import Block, BookUpdate, Funding, Snapshot, Trade
from shards.protocol.frames import (
    KEYFRAME,
    KIND_BOOK,
    KIND_GAP,
    KIND_TICKER,
    KIND_TRADES,
    LATE,
    SNAPSHOT,
)
from shards.protocol.settings import Limits
from tests.shards.chain import FIRST, IDS, MARKETS
from tests.shards.one_market import CHAIN, ONE, SECOND, gaps, hear, live, pipeline, state, subscribe
from tests.shards.world import World

# ---- joining ------------------------------------------------------------------------------


def test_a_market_is_pending_then_syncing_then_live_once_its_book_has_joined() -> None:
    one = pipeline()
    assert state(one) is State.PENDING
    subscribe(one)
    assert state(one) is State.SYNCING
    hear(one, FIRST)
    assert one.take_requests() == [NeedSnapshot(ONE, 0)]
    assert one.wants_snapshot(ONE)
    assert one.join(CHAIN.snapshot(ONE, FIRST), SECOND)
    assert state(one) is State.LIVE
    assert gaps(one) == [], "joining is no gap"


def test_the_first_block_is_the_first_that_is_due() -> None:
    one = live(FIRST + 3)
    hear(one, FIRST + 4)
    ledger = one.feeds[ONE].ledger
    assert (ledger.first, ledger.last, ledger.received) == (FIRST + 3, FIRST + 4, 2)


# ---- heights --------------------------------------------------------------------------------


def test_a_jump_in_height_asks_for_the_lost_blocks_and_holds_the_later_ones() -> None:
    one = live()
    hear(one, FIRST + 3, FIRST + 4)
    assert one.take_requests() == [NeedReplay()]
    assert one.liveness.due_replays(10) == [FIRST + 1, FIRST + 2]
    assert state(one) is State.SYNCING
    assert gaps(one) == [("open", "height", FIRST + 1, 0)]
    one.liveness.replay(FIRST + 2, CHAIN.whole(FIRST + 2), SECOND)
    assert one.take_records() == [], "not before the one that comes first"
    assert one.liveness.due_replays(10) == [FIRST + 1]
    one.liveness.replay(FIRST + 1, CHAIN.whole(FIRST + 1), SECOND)
    records = one.take_records()
    heights = [r.height for r in records if r.kind != KIND_GAP and not r.flags & KEYFRAME]
    assert heights == sorted(heights)
    late = {r.height for r in records if r.flags & LATE and r.kind != KIND_GAP}
    assert late == set(heights), "neither what was replayed nor what waited for it was in time"
    assert state(one) is State.LIVE
    ledger = one.feeds[ONE].ledger
    assert (ledger.last, list(ledger.replayed), list(ledger.missing)) == (
        FIRST + 4,
        [(FIRST + 1, FIRST + 2)],
        [],
    )


def test_a_block_that_comes_again_or_late_is_counted_and_dropped() -> None:
    one = live(FIRST + 5)
    hear(one, FIRST + 5, FIRST + 2, FIRST + 5)
    assert one.feeds[ONE].stats.duplicates == 3
    assert one.take_records() == []
    assert one.feeds[ONE].ledger.last == FIRST + 5


def test_a_block_that_nobody_has_is_missing_and_its_gap_stays_open_with_its_heights() -> None:
    one = live()
    hear(one, FIRST + 4)
    for height, block in (
        (FIRST + 1, None),
        (FIRST + 2, CHAIN.whole(FIRST + 2)),
        (FIRST + 3, None),
    ):
        one.liveness.replay(height, block, SECOND)
    assert NeedSnapshot(ONE, FIRST + 3) in one.take_requests(), "the book has a hole, too"
    assert one.join(CHAIN.snapshot(ONE, FIRST + 4), SECOND)
    assert state(one) is State.LIVE
    assert gaps(one)[-1] == ("open", "height", FIRST + 1, FIRST + 3)
    assert list(one.feeds[ONE].ledger.missing) == [(101, 101), (103, 103)]


def test_of_a_hole_beyond_the_limit_only_the_newest_part_is_replayed() -> None:
    one = pipeline(limits=Limits(replay_blocks=3))
    subscribe(one)
    hear(one, FIRST, FIRST + 11)
    assert one.liveness.due_replays(10) == [FIRST + 8, FIRST + 9, FIRST + 10]
    assert list(one.feeds[ONE].ledger.missing) == [(FIRST + 1, FIRST + 7)]


def test_behind_a_hole_larger_than_what_may_be_held_nothing_is_held_until_it_is_nearly_filled() -> (
    None
):
    one = pipeline(limits=Limits(held_blocks=4))
    subscribe(one)
    hear(one, FIRST)
    assert one.join(CHAIN.snapshot(ONE, FIRST), SECOND)
    held = []
    newest = FIRST + 10
    for height in range(FIRST + 1, FIRST + 20):
        # The chain goes on at half the pace at which lost blocks are had.
        if height % 2:
            newest += 1
            hear(one, newest)
            held.append(one.liveness.held_blocks())
        if one.liveness.due_replays(1) == [height]:
            one.liveness.replay(height, CHAIN.whole(height), SECOND)
    assert held[:5] == [0] * 5
    assert 0 < max(held) <= 4
    assert state(one) is State.LIVE
    ledger = one.feeds[ONE].ledger
    assert (ledger.last, ledger.due, list(ledger.missing)) == (newest, newest - FIRST + 1, [])
    assert [gap[0] for gap in gaps(one)] == ["open", "closed"], "it is one hole"


def test_a_hole_that_grows_beyond_what_is_replayed_gives_up_nothing_that_is_being_fetched() -> None:
    one = pipeline(limits=Limits(held_blocks=2, replay_blocks=6))
    subscribe(one)
    hear(one, FIRST, FIRST + 10)
    assert one.join(CHAIN.snapshot(ONE, FIRST + 10), SECOND)
    ledger = one.feeds[ONE].ledger
    assert list(ledger.missing) == [(FIRST + 1, FIRST + 3)]
    for n in range(6):
        # Fetching is no faster than the chain.
        (due,) = one.liveness.due_replays(1)
        hear(one, FIRST + 11 + n)
        one.liveness.replay(due, CHAIN.whole(due), SECOND)
    assert list(ledger.replayed) == [(FIRST + 4, FIRST + 9)]
    assert next(iter(ledger.missing)) == (FIRST + 1, FIRST + 3)
    while due_next := one.liveness.due_replays(1):
        one.liveness.replay(due_next[0], CHAIN.whole(due_next[0]), SECOND)
    assert (ledger.last, len(ledger.missing)) == (FIRST + 16, 3 + 1), "of seven, six are had"


def test_a_block_that_is_repeated_behind_a_hole_is_held_once_and_is_no_sign_of_life() -> None:
    one = live()
    hear(one, FIRST + 2)
    heard_at = one.liveness.tracks[ONE].heard_at
    hear(one, *[FIRST + 2] * 10, FIRST + 1)
    assert one.liveness.held_blocks() == 1
    assert one.feeds[ONE].stats.duplicates == 11
    assert one.liveness.tracks[ONE].heard_at == heard_at
    one.liveness.replay(FIRST + 1, CHAIN.whole(FIRST + 1), SECOND)
    assert state(one) is State.LIVE
    assert one.feeds[ONE].ledger.last == FIRST + 2


def test_where_nothing_is_replayed_a_block_in_hand_is_not_given_up_with_the_hole() -> None:
    one = pipeline(limits=Limits(held_blocks=4, replay_blocks=0))
    subscribe(one)
    hear(one, FIRST, FIRST + 10)
    ledger = one.feeds[ONE].ledger
    assert (ledger.last, list(ledger.missing)) == (FIRST + 10, [(FIRST + 1, FIRST + 9)])


# ---- what the source says --------------------------------------------------------------------


def test_a_refused_subscription_is_asked_for_again() -> None:
    one = pipeline()
    one.subscribed(1, (ONE,), SECOND)
    one.receive(b'{"id":1,"error":{"code":-32603,"data":"subscription_id already exists: a"}}', 2)
    assert state(one) is State.FAILED
    assert one.feeds[ONE].reason == "subscription_id already exists: a"
    assert one.take_requests() == [NeedSubscription(ONE)]
    assert gaps(one) == [], "nothing was due yet"
    subscribe(one, 2)
    assert state(one) is State.SYNCING


def test_a_subscription_that_ends_in_an_error_opens_a_gap_and_needs_a_block_to_go_on() -> None:
    one = live()
    one.receive(b'{"id":1,"error":{"code":1,"message":"stream error"}}', 200 * SECOND)
    assert state(one) is State.FAILED
    assert gaps(one) == [("open", "disconnect", FIRST + 1, 0)]
    assert one.liveness.mute(10_000 * SECOND) == [], "there is nothing to listen to"
    subscribe(one, 2)
    assert state(one) is State.STALE
    hear(one, FIRST + 1, subscription=2)
    assert state(one) is State.LIVE
    assert gaps(one) == [("closed", "disconnect", FIRST + 1, FIRST + 1)]


def test_an_error_without_an_id_condemns_the_connection() -> None:
    one = live()
    with pytest.raises(DecodeError, match="without an id: Parse error"):
        one.receive(b'{"error":{"code":-32700,"message":"Parse error"}}', SECOND)


def test_what_a_replaced_subscription_still_says_is_ignored() -> None:
    one = live()
    subscribe(one, 2)
    hear(one, FIRST + 1)
    assert one.ignored == 1
    assert one.feeds[ONE].ledger.last == FIRST


def test_a_disconnected_market_is_stale_until_a_block_comes() -> None:
    one = live()
    one.disconnected("disconnect", 200 * SECOND, "cut")
    assert (state(one), one.feeds[ONE].reason) == (State.STALE, "cut")
    assert gaps(one) == [("open", "disconnect", FIRST + 1, 0)]
    subscribe(one, 2)
    assert state(one) is State.STALE
    hear(one, FIRST + 1, subscription=2)
    assert state(one) is State.LIVE


# ---- mute subscriptions ------------------------------------------------------------------------


def test_a_subscription_without_blocks_for_five_block_times_is_mute() -> None:
    one = live()
    hear(one, *range(FIRST + 1, FIRST + 30))
    assert one.block_time_s == pytest.approx(1.0)
    assert one.liveness.mute_limit_s() == pytest.approx(5.0)
    heard = (FIRST + 29) * SECOND
    assert one.liveness.mute(heard + 5 * SECOND) == []
    assert one.liveness.mute(heard + 6 * SECOND) == [ONE]


def test_an_outage_is_not_taken_for_the_pace_of_the_blocks() -> None:
    """Else a subscription that goes mute soon after it would be found late."""
    one = live()
    hear(one, *range(FIRST + 1, FIRST + 30))
    away = 60
    assert one.liveness.head.at == (FIRST + 29) * SECOND
    one.receive(CHAIN.payload(1, FIRST + 30, (ONE,)), (FIRST + 30 + away) * SECOND)
    assert one.liveness.mute_limit_s() == pytest.approx(6.0)


def test_a_slower_chain_is_known_within_blocks() -> None:
    """The pace of the blocks is learnt, in time for nothing to be taken for mute."""
    one = live()
    hear(one, *range(FIRST + 1, FIRST + 10))
    ts = one.liveness.head.at
    for height in range(FIRST + 10, FIRST + 40):
        ts += 4 * SECOND
        assert one.liveness.mute(ts) == []
        one.receive(CHAIN.payload(1, height, (ONE,)), ts)
    assert one.block_time_s == pytest.approx(4.0, rel=0.2)


def test_the_pace_is_soon_known_again_after_blocks_that_came_all_at_once() -> None:
    """A process that was stopped hears in one read what it missed."""
    one = live()
    for height in range(FIRST + 1, FIRST + 25):
        one.receive(CHAIN.payload(1, height, (ONE,)), FIRST * SECOND + height)
    assert one.block_time_s < 0.1
    hear(one, *range(FIRST + 25, FIRST + 35))
    assert one.block_time_s > 0.5


def test_an_unconfirmed_subscription_has_longer() -> None:
    one = pipeline(limits=Limits(confirm_s=10))
    assert one.liveness.mute(10_000 * SECOND) == [], "not asked for yet"
    one.subscribed(1, (ONE,), 100 * SECOND)
    assert one.liveness.mute(109 * SECOND) == []
    assert one.liveness.mute(111 * SECOND) == [ONE]


# ---- keyframes ----------------------------------------------------------------------------------


def test_a_keyframe_never_stands_for_deltas_that_follow_it() -> None:
    """The aggregator drops what a keyframe includes."""
    one = pipeline(limits=Limits(keyframe_every=2))
    subscribe(one)
    hear(one, *range(FIRST, FIRST + 20))
    assert one.join(CHAIN.snapshot(ONE, FIRST - 1), SECOND)
    books = [record for record in one.take_records() if record.kind == KIND_BOOK]
    sent = 0
    for record in books:
        if record.flags & KEYFRAME:
            assert record.sequence == sent
        sent = record.sequence
    assert any(record.flags & KEYFRAME for record in books)


def test_keyframes_of_markets_that_all_change_in_each_block_do_not_come_all_at_once() -> None:
    limits = Limits(keyframe_every=8)
    markets = [
        msgspec.structs.replace(MARKETS[0], market_id=f"0x{n:064x}", symbol=f"M{n}")
        for n in range(64)
    ]
    one = block_pipeline(markets, source="chain-ws", decoder=ws_decoder.decode, limits=limits)

    def keyframes_of(sequence: int) -> int:
        for market_id, feed in one.feeds.items():
            update = BookUpdate(market_id, sequence, [("1.0", "1.0")], [])
            feed.publish(Block(FIRST + sequence, 0, [], [update]), 0, "chain-ws")
        while one.has_late:
            one.settle(64)
        return sum(bool(record.flags & KEYFRAME) for record in one.take_records())

    for market_id, feed in one.feeds.items():
        assert feed.join(Snapshot(market_id, FIRST, 1, [], []), 0)
    one.take_records()
    first = [keyframes_of(sequence) for sequence in range(2, 10)]
    assert sum(first) == len(markets)
    assert max(first) < len(markets) / 2
    one.keyframes(SECOND)
    assert sum(bool(record.flags & KEYFRAME) for record in one.take_records()) == len(markets)
    again = [keyframes_of(sequence) for sequence in range(10, 18)]
    assert sum(again) == len(markets)
    assert max(again) < len(markets) / 2, "a new aggregator has them all at once, and then no more"


def test_a_new_aggregator_gets_every_book_that_is_in_step() -> None:
    world = World(1, grouped=False)
    world.connect()
    world.block()
    world.pipeline.take_records()
    world.pipeline.keyframes(SECOND)
    assert world.pipeline.take_records() == [], "none is in step yet"
    for _ in IDS:
        world.answer_snapshot(0)
    world.pipeline.take_records()
    world.pipeline.keyframes(SECOND)
    kept = world.pipeline.take_records()
    assert all(record.flags & SNAPSHOT and record.flags & KEYFRAME for record in kept)
    kinds = [record.kind for record in kept]
    assert kinds == [KIND_BOOK] * len(IDS) + [KIND_TICKER] * len(IDS)


# ---- blocks of many markets -----------------------------------------------------------------


def test_a_block_of_many_markets_is_cut_by_market_keeping_its_order() -> None:
    trades = [(m, Trade(f"5_{n}", "buy", *["1"] * 7)) for n, m in enumerate("abca")]
    updates = [BookUpdate("b", 1, [], []), BookUpdate("d", 2, [], [])]
    block = Block(5, 6, trades, updates)
    cut = split(block)
    assert sorted(cut) == ["a", "b", "c", "d"]
    assert [trade.trade_id for _, trade in cut["a"].trades] == ["5_0", "5_3"]
    assert cut["b"].updates == updates[:1]
    assert all(part.height == 5 and part.ts_event == 6 for part in cut.values())


# ---- the book's own sequence ----------------------------------------------------------------


def test_a_missing_book_update_resyncs_the_book_while_the_blocks_go_on() -> None:
    one = live()
    height = FIRST + 1
    while not CHAIN.books[height][ONE].sequence > CHAIN.books[height - 1][ONE].sequence:
        hear(one, height)
        height += 1
    found = CHAIN.books[height][ONE].sequence
    said = CHAIN.payload(1, height, (ONE,)).replace(b'"%d"' % found, b'"%d"' % (found + 3))
    one.receive(said, height * SECOND)
    assert state(one) is State.SYNCING
    assert one.feeds[ONE].reason == f"book update {found + 3} instead of {found}"
    assert one.feeds[ONE].ledger.last == height
    assert one.take_requests() == [NeedSnapshot(ONE, 0)]
    assert gaps(one) == [("open", "seq", height, 0)]
    assert not one.join(CHAIN.snapshot(ONE, height - 1), SECOND)
    later = next(h for h in range(height, 140) if CHAIN.books[h][ONE].sequence >= found + 3)
    assert one.join(CHAIN.snapshot(ONE, later), SECOND)
    assert state(one) is State.LIVE
    assert gaps(one) == [("closed", "seq", height, height)]


def test_funding_that_was_dropped_is_told_again_and_no_block_is() -> None:
    made = block_pipeline(
        MARKETS[:1], source="chain-ws", decoder=ws_decoder.decode, channels=("funding",)
    )
    texts = ("0.1", "0.2", 3, 3600, 3600, "0.0", "0.0", "9.6")
    made.publish(ONE, Funding(ONE, FIRST, 0, SECOND, "query", *texts))
    made.publish("0xunknown", Funding("0xunknown", FIRST, 0, SECOND, "query", *texts))
    [told] = made.take_records()
    assert told.topic == f"funding.{MARKETS[0].symbol}."
    assert made.dropped([told], SECOND) == 1
    assert made.take_records() == [told]
    assert made.liveness.due_replays(9) == []


# ---- markets that come and go -------------------------------------------------------------


def test_the_last_market_of_a_group_hears_nothing_of_those_that_were_let_go() -> None:
    group = block_pipeline(MARKETS, source="chain-grpc", decoder=ws_decoder.decode)
    group.subscribed(1, IDS, SECOND)
    group.receive(b'{"id":1,"result":"success"}', SECOND)
    group.receive(CHAIN.payload(1, FIRST, IDS), SECOND)
    group.remove(IDS[1:])
    group.take_records()
    for height in range(FIRST + 1, FIRST + 30):
        group.receive(CHAIN.payload(1, height, IDS), height * SECOND)
    records = [r for r in group.take_records() if r.kind == KIND_TRADES]
    assert records
    truth = {h: [t for m, t in CHAIN.whole(h).trades if m == ONE] for h in range(FIRST, FIRST + 30)}
    assert {r.topic for r in records} == {f"trades.{MARKETS[0].symbol}."}
    assert {r.height: r.count for r in records} == {
        height: len(trades) for height, trades in truth.items() if trades and height > FIRST
    }


def test_a_market_that_is_let_go_is_ignored_and_may_come_back() -> None:
    one = live()
    one.remove([ONE])
    assert not one.wants_snapshot(ONE)
    assert one.join(CHAIN.snapshot(ONE, FIRST), SECOND), "nobody needs another one"
    hear(one, FIRST + 1)
    assert (one.take_records(), one.ignored) == ([], 1)
    one.add(MARKETS[:1], {})
    subscribe(one, 2, 3 * SECOND)
    hear(one, FIRST + 2, subscription=2)
    assert one.feeds[ONE].ledger.first == FIRST + 2
