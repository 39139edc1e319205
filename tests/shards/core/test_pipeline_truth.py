"""
The pipeline against the truth: whatever happens, every trade and book change comes once,
in order, or is missing by name.
"""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from shards.core.feed import Feed
from shards.protocol.settings import Limits
from tests.searches import examples
from tests.shards.chain import MARKETS
from tests.shards.reader import Received
from tests.shards.world import World, heights_of

Action = Callable[[World, int], None]

ACTIONS: dict[str, Action] = {
    "block": lambda world, n: world.block(),
    "several blocks": lambda world, n: world.blocks(n + 1),
    "one subscription loses a block": lambda world, n: world.block(deaf=n % 3),
    "blocks come twice": lambda world, n: world.again(0),
    "blocks come late": lambda world, n: world.again(n + 1),
    "disconnect": lambda world, n: world.disconnect(),
    "connect": lambda world, n: world.connect(),
    "mute": lambda world, n: world.mute(n),
    "watch": lambda world, n: world.watch(),
    "pause": lambda world, n: world.pause(n),
    "snapshot": lambda world, n: world.answer_snapshot(n),
    "snapshot from the past": lambda world, n: world.answer_snapshot(n, late_by=n + 1),
    "snapshot of unknown height": lambda world, n: world.answer_snapshot(n, told=False),
    "snapshot pruned": lambda world, n: world.prune_snapshot(n),
    "replay": lambda world, n: world.answer_replay(n),
    "replays": lambda world, n: world.answer_replays(n),
    "replay gone": lambda world, n: world.answer_replay(n, gone=True),
    "send": lambda world, n: world.send(),
    "send some": lambda world, n: world.send(2),
    "drop": lambda world, n: world.drop(),
    "report": lambda world, n: world.report(),
    "be away for long": lambda world, n: world.be_away(n + 1),
    "restart": lambda world, n: world.restart(),
}

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
PLAYS = st.lists(
    st.tuples(st.sampled_from(sorted(ACTIONS)), st.integers(0, 7)), min_size=5, max_size=70
)
SMALL = Limits(held_blocks=4, replay_blocks=6, keyframe_every=2)


def play(world: World, steps: list[tuple[str, int]]) -> None:
    """Start well, go through the faults, heal."""
    world.connect()
    world.block()
    for action, number in steps:
        ACTIONS[action](world, number)
    world.heal()


def check(world: World) -> None:
    """Compare all that came out with the truth."""
    assert world.live(), [repr(feed) for feed in world.pipeline.feeds.values()]
    for market in MARKETS:
        feed = world.pipeline.feeds[market.market_id]
        received = world.reader.markets[market.symbol]
        check_ledger(world, feed)
        check_trades(world, feed, received)
        check_book(world, feed, received)
        check_gaps(world, feed, received)


def check_ledger(world: World, feed: Feed) -> None:
    """Every due height is received, replayed or missing; and never two of them."""
    ledger = feed.ledger
    assert ledger.last == world.head
    replayed, missing = heights_of(ledger.replayed), heights_of(ledger.missing)
    assert not replayed & missing
    assert replayed | missing <= set(range(ledger.first, ledger.last + 1))
    assert ledger.received + len(replayed) + len(missing) == ledger.due
    assert ledger.received >= 0


def check_trades(world: World, feed: Feed, received: Received) -> None:
    """
    All trades of all due blocks came once and in order, but for the missing blocks'.

    What a process gave up, announced, and did not live to report may be had by its
    successor; behind later trades it is too late for it. Its gap stays open.
    """
    lost = world.given_up[feed.market_id] | heights_of(feed.ledger.missing)
    for height in range(max(feed.ledger.first, received.known + 1), feed.ledger.last + 1):
        truth = world.chain.trade_ids(feed.market_id, height)
        if truth and (height in received.trades or height not in lost):
            assert received.trades.get(height) == truth, height
    assert list(received.trades) == sorted(received.trades)


def check_book(world: World, feed: Feed, received: Received) -> None:
    """Every change came once and in order, but for the missing blocks'; they add up to the book."""
    truth = world.chain.books[world.head][feed.market_id]
    lost = world.given_up[feed.market_id] | heights_of(feed.ledger.missing)
    for before, after, _ in received.jumps:
        heights = world.chain.heights_of(feed.market_id, range(before + 1, after))
        # Blocks before the ledger's first came to a process that died before it reported any.
        due = {height for height in heights if height >= feed.ledger.first}
        assert due <= lost, (before, after, due - lost)
    assert feed.sync.book.bids == truth.bids
    assert feed.sync.book.asks == truth.asks
    assert received.book.sequence == truth.sequence
    assert received.book.bids == truth.bids
    assert received.book.asks == truth.asks
    assert received.wrong_tickers == []
    assert received.best == received.top()


def check_gaps(world: World, feed: Feed, received: Received) -> None:
    """An opened gap is closed, or stays open with its heights because some are missing."""
    for gap_id, told in received.gaps.items():
        states = [gap.state for gap in told]
        if gap_id not in world.dead_gaps:
            assert states[0] == "open", told
        assert "closed" not in states[:-1], told
        assert len({gap.cause for gap in told}) == 1
    still = [gap for gap in received.open_gaps() if gap.gap_id not in world.dead_gaps]
    for gap in still:
        assert gap.last, f"a live market with a gap of unknown end: {gap}"
    assert feed.stats.gaps_opened - feed.stats.gaps_closed >= 0
    # One whose process died stays open without an end.
    announced = [range(gap.first, (gap.last or world.head) + 1) for gap in received.open_gaps()]
    for height in heights_of(feed.ledger.missing):
        assert any(height in heights for heights in announced), (height, announced)


def test_a_book_whose_process_never_reported_goes_on_after_a_hole() -> None:
    steps = [("snapshot", 0), ("send", 0), ("restart", 0), *[("be away for long", 0)] * 2]
    world = World(0, grouped=False)
    play(world, steps)
    check(world)


def test_changes_that_go_out_before_any_whole_book_lead_to_one() -> None:
    away = ("be away for long", 0)
    for send in ([], [("replays", 0), ("send", 0), ("restart", 0)]):
        world = World(0, grouped=False)
        play(world, [away, away, *send])
        check(world)


def test_the_first_book_that_was_dropped_stood_for_the_changes_before_it() -> None:
    names = ("snapshot", "send", "restart", "connect", "block", "snapshot", "drop")
    world = World(0, grouped=False)
    play(world, [(name, 0) for name in ("block",) * 6 + names])
    check(world)


def test_a_book_of_unknown_height_does_not_hide_changes_that_were_not_received_yet() -> None:
    names = ("snapshot", "be away for long", "restart", "snapshot from the past")
    world = World(0, grouped=True)
    play(world, [(name, 0) for name in (*names, "snapshot of unknown height")])
    check(world)


@pytest.mark.parametrize("grouped", [False, True], ids=["one each", "one for all"])
@settings(
    max_examples=examples(200),
    deadline=None,
    phases=PHASES,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=False,
)
@given(seed=st.integers(0, 2**16), steps=PLAYS)
def test_every_trade_and_book_change_comes_once_in_order_or_is_missing_by_name(
    grouped: bool, seed: int, steps: list[tuple[str, int]]
) -> None:
    world = World(seed, grouped=grouped)
    play(world, steps)
    check(world)


@settings(
    max_examples=examples(200),
    deadline=None,
    phases=PHASES,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**16), steps=PLAYS)
def test_it_holds_with_bounds_so_small_that_all_of_them_are_reached(
    seed: int, steps: list[tuple[str, int]]
) -> None:
    world = World(seed, grouped=False, limits=SMALL)
    play(world, steps)
    check(world)
