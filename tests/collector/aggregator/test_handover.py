"""A market changes hands: nothing missing, nothing twice, whatever dies in between."""

import contextlib
from collections.abc import Iterator

import pytest

from shards.protocol.events import Book, Gap, Trades
from tests.collector.aggregator.moving import NAME, World

CALM = ("block", "hear", "hear", "hear", "join", "push", "push", "report", "report")


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(request.param)
    yield world
    world.close()


def run(world: World, steps: int, *rare: str, to: int = 10_000) -> None:
    """Take random steps; the rare ones one time in sixty each, once there is a ledger."""
    while not world.aggregator.coverage.states[NAME].first:
        getattr(world, world.rng.choice(CALM))()
    for _ in range(steps):
        step = world.rng.choice(CALM)
        if rare and world.rng.random() < len(rare) / 60:
            step = world.rng.choice(rare)
        getattr(world, step)()
    world.finish(to=to)


def check(world: World) -> list[Gap]:
    """Whatever a subscriber drops by height and by sequence, the rest is everything, in order."""
    first = world.aggregator.coverage.states[NAME].first
    height, sequence = first - 1, -1
    trades: list[int] = []
    gaps: list[Gap] = []
    for event in world.published():
        if isinstance(event, Trades) and event.height > height:
            height = event.height
            trades.append(height)
        elif isinstance(event, Book) and (sequence < 0 or event.sequence > sequence):
            # A whole book may not jump either: what it skips would be lost.
            assert sequence < 0 or event.sequence == sequence + 1
            sequence = event.sequence
        elif isinstance(event, Gap):
            gaps.append(event)
    last = world.chain.head
    assert trades == sorted(h for h in world.chain.trades if h >= first)
    assert sequence == world.chain.sequence[last]
    state = world.aggregator.coverage.states[NAME]
    assert (state.shard, state.last, state.missing) == (world.wanted, last, [])
    assert world.aggregator.handover.unsettled() == []
    return gaps


@pytest.mark.parametrize("world", range(40), indirect=True)
def test_a_market_moves_to_and_fro_and_no_gap_is_announced(world: World) -> None:
    run(world, 600, *["move"] * world.rng.choice((1, 4, 10)))
    assert check(world) == []
    holders = [shard.number for shard in world.shards if shard.ledger is not None]
    assert holders == [world.wanted], "the other one has let it go"


@pytest.mark.parametrize("world", range(40), indirect=True)
def test_a_market_moves_while_shards_die(world: World) -> None:
    run(world, 600, "move", "kill_shard")
    gaps = check(world)
    opened = {gap.gap_id for gap in gaps if gap.state == "open"}
    assert opened == {gap.gap_id for gap in gaps if gap.state == "closed"}


@pytest.mark.parametrize("world", range(40), indirect=True)
def test_a_market_moves_while_the_aggregator_dies(world: World) -> None:
    run(world, 600, "move", "kill_aggregator")
    check(world)


@pytest.mark.parametrize("world", [3], indirect=True)
def test_a_removed_market_comes_back_on_another_shard_and_nothing_is_missing(world: World) -> None:
    run(world, 60, to=40)
    before = world.aggregator.coverage.states[NAME].last
    world.remove()
    assert world.aggregator.handover.unsettled() == [NAME]
    world.finish(to=before + 10)
    assert NAME not in world.aggregator.coverage.states
    assert world.aggregator.coverage.coverage(1000.0) == 0.0
    assert [shard.ledger for shard in world.shards] == [None, None]
    world.move()
    assert world.aggregator.handover.unsettled() == [NAME], "until it is live"
    world.finish()
    gaps = check(world)
    assert [(gap.state, gap.cause, gap.first) for gap in gaps] == [
        ("open", "removed", before + 1),
        ("closed", "removed", before + 1),
    ]
    world.aggregator.telemetry.journal.flush()
    entries = [(e.shard, e.text) for e in world.aggregator.telemetry.journal if e.kind == "listing"]
    assert entries == [(0, "collection ended"), (1, "collection started")]


def test_a_removed_market_that_comes_back_late_begins_anew() -> None:
    with contextlib.closing(World(3, resume_within=5)) as world:
        run(world, 60, to=40)
        world.remove()
        world.finish(to=60)
        world.move()
        world.finish()
        coverage = world.aggregator.coverage
        state = coverage.states[NAME]
        assert state.first > 60
        assert state.missing == []
        # Its shard is handed the gap of its removal, to say which blocks were not collected.
        gap = coverage.resume_points([NAME])[NAME].gap
        assert gap is not None
        assert (gap.cause, gap.state, gap.last) == ("removed", "open", 0)


@pytest.mark.parametrize("world", [5], indirect=True)
def test_a_move_that_is_taken_back_and_asked_for_again_forgets_no_frame(world: World) -> None:
    # Of a book that never changes nothing can be learnt.
    world.chain.changes.clear()
    world.chain.sequence = [0] * len(world.chain.sequence)
    world.chain.trades |= set(range(21, 40))
    run(world, 0, to=20)
    owner, newcomer = world.shards
    world.move()
    newcomer.report(world.aggregator)
    # The owner lags behind, by the two blocks before the newcomer's first.
    world.block()
    world.block()
    newcomer.hear()
    newcomer.join()
    for _ in range(5):
        world.block()
        newcomer.hear()
        newcomer.push(world.aggregator, 10)
    newcomer.report(world.aggregator)
    # The held frames are dropped, and the new owner, which does not know of them, continues.
    world.move()
    world.move()
    for _ in range(2):
        newcomer.report(world.aggregator)
        owner.hear()
        owner.push(world.aggregator, 10)
        owner.report(world.aggregator)
    world.finish()
    assert check(world) == []


@pytest.mark.parametrize("world", [5], indirect=True)
def test_a_market_whose_book_is_silent_returns_to_a_shard_that_never_let_go(world: World) -> None:
    world.chain.changes.clear()
    world.chain.sequence = [7] * len(world.chain.sequence)
    run(world, 0, to=20)
    owner, newcomer = world.shards
    world.move()
    for _ in range(4):
        world.block()
        newcomer.hear()
        newcomer.join()
        newcomer.push(world.aggregator, 10)
        owner.hear()
        owner.push(world.aggregator, 10)
        if world.aggregator.handover.joins:
            owner.report(world.aggregator)
        newcomer.report(world.aggregator)
    assert not world.aggregator.handover.joins, "it has changed hands"
    # The former owner does not know yet that it may release the market, and gets it again.
    world.move()
    world.finish()
    assert check(world) == []
