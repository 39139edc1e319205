"""
The aggregator where everything may begin again: chain, sequence, its own epoch, the shards' clocks.

A machine takes steps in any order: two shards, played by hand, send what they heard, report what
changed since their last answered report (reports and answers get lost), die, come back with higher or lower epochs, and notice sooner or later that the chain was replaced; the
aggregator dies and is followed by one with its ledger. Batches are on their way for a while, also
those of a dead shard, or for a dead aggregator. A naive model knows each chain's blocks.
At every frame: numbers without a hole, nothing of another chain, nothing that is untrue, nothing
twice, no book that goes back, no block in the ledger whose trades were not published, nothing
accepted that was meant for another process. In the end: everything since the ledger's first block
was published, each block counted, and the market moved.
"""

from typing import Any, Final, TypeAlias

import msgspec
import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from collector.aggregator.aggregator import Aggregator
from collector.aggregator.forwarder import Publisher
from collector.aggregator.state.saved import Saved
from collector.settings.parts import AggregatorConfig, Steering
from shards.protocol import frames
from shards.protocol.chain import Chain, Mark
from shards.protocol.control import Answer
from shards.protocol.events import Book, Event, Gap, Trade, Trades
from shards.protocol.frames import (
    KEYFRAME,
    KIND_BOOK,
    KIND_GAP,
    KIND_TRADES,
    SNAPSHOT,
    BatchHeader,
    Record,
)
from shards.protocol.ledger import MarketLedger
from shards.protocol.settings import Endpoints, Market
from tests.searches import examples
from tests.shards.reported import Changes, market_report, report

MARKET: Final = Market("0x" + "a" * 64, "INJ/USDT", "INJ-USDT", "spot")
NAME: Final = MARKET.market_id
S: Final = 10**9
WHO = st.integers(0, 1)
Batch: TypeAlias = tuple[BatchHeader, list[Record]]


class Blocks:
    """What one chain is: which blocks have trades, and the book's sequence after each."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.trades: set[int] = set()
        self.sequence = [0]
        self.restarts: set[int] = set()
        """Heights whose change begins the count again."""

    @property
    def head(self) -> int:
        return len(self.sequence) - 1

    def block(self, *, with_trades: bool, with_change: bool) -> None:
        self.sequence.append(self.sequence[-1] + with_change)
        if with_trades:
            self.trades.add(self.head)

    def count_again(self, sequence: int) -> None:
        if sequence < self.sequence[-1]:
            self.sequence.append(sequence)
            self.restarts.add(self.head)

    def changed(self, height: int) -> bool:
        return self.sequence[height] != self.sequence[height - 1]


class Shard:
    """One shard of the market, as the aggregator sees it."""

    def __init__(self, number: int, world: "World") -> None:
        self.number = number
        self.epoch = 100 + number
        self.world = world
        self.generation = 0
        self.begin()

    def begin(self) -> None:
        """Be a process that knows nothing."""
        self.blocks = self.world.blocks_of[self.generation]
        self.replacement: Chain | None = None
        self.ledger: MarketLedger | None = None
        self.book = -1
        self.changed_at = 0
        self.gap: Gap | None = None
        self.made: list[Record] = []
        self.sent = self.kept = 0
        self.version = 0
        self.is_fresh = True
        self.publisher = 0
        self.changes = Changes()

    # ---- what it hears ----------------------------------------------------------------

    def hear(self) -> None:
        """Take the next block."""
        ledger, blocks = self.ledger, self.blocks
        if ledger is None:
            return
        if not ledger.first:
            if blocks.head:
                ledger.begin(blocks.head + 1)
            return
        if ledger.last >= blocks.head:
            return
        height = ledger.last = ledger.last + 1
        if height in blocks.trades:
            price = str(blocks.number)
            fills = [Trade(f"{height}_0", "buy", price, *["1"] * 6)]
            event = Trades(NAME, height, height * S, 1, "chain-ws", fills)
            self.make("trades", KIND_TRADES, 0, height, 0, event)
        if not blocks.changed(height):
            return
        self.changed_at = height * S
        if self.book < 0:
            return
        if height in blocks.restarts:
            self.book = -1
            return
        self.book = blocks.sequence[height]
        named = 0 if self.world.by_time else height
        self.make_book(named, height * S, 0)

    def join(self) -> None:
        """Have the book fetched."""
        ledger = self.ledger
        if ledger is not None and ledger.first and self.book < 0:
            self.book = self.blocks.sequence[ledger.last]
            self.make_book(ledger.last, self.changed_at if self.world.by_time else 0, SNAPSHOT)

    def make_book(self, height: int, ts_event: int, flags: int) -> None:
        is_whole = bool(flags & SNAPSHOT)
        levels = [(str(self.blocks.number), "1")]
        event = Book(NAME, height, self.book, ts_event, 1, "chain-ws", is_whole, levels, [])
        self.make("book", KIND_BOOK, flags, height, self.book, event, ts_event)

    def make(
        self,
        channel: str,
        kind: int,
        flags: int,
        height: int,
        sequence: int,
        event: Event,
        ts_event: int = 0,
    ) -> None:
        name = frames.topic(channel, MARKET.symbol)
        packed = frames.encode(event)
        self.made.append(Record(name, kind, flags, height, sequence, 1, ts_event, 1, packed))

    # ---- what it has to do with the aggregator ------------------------------------------

    def push(self, count: int) -> None:
        """Send some of what waits."""
        records = self.made[self.sent : self.sent + count]
        if records and self.publisher:
            head = (frames.VERSION, self.number, self.epoch, self.publisher, self.sent + 1)
            self.world.wires[self.number].append((BatchHeader(*head, 0, False), records))
            self.sent += len(records)

    @property
    def is_live(self) -> bool:
        ledger = self.ledger
        return ledger is not None and ledger.first > 0 and self.book >= 0

    def report(self, *, arrives: bool = True, answered: bool = True) -> None:
        """Report, and do as the answer says; either of them may be lost."""
        if self.gap is not None and self.is_live:
            closed = msgspec.structs.replace(self.gap, state="closed", last=self.blocks.head)
            self.make("gap", KIND_GAP, 0, closed.first, closed.gap_id, closed)
            self.gap = None
        rows, ledger = [], self.ledger
        if ledger is not None and not self.is_fresh:
            state = "live" if self.is_live else "syncing"
            rows = [market_report(NAME, ledger.first, ledger.last, state=state, sequence=self.book)]
        made = len(self.made)
        said = report(
            *rows, shard=self.number, epoch=self.epoch, fresh=self.is_fresh, frames=made, kept=made
        )
        said.head, said.assignment = self.blocks.head, self.version
        said.chain = self.replacement or self.world.record(self.generation)
        said.replaces = self.generation if self.replacement is not None else -1
        if not self.is_fresh:
            said = self.changes.of(said)
        if not arrives:
            return
        answer = self.world.aggregator.report(said, 1_000.0)
        assert not answer.fenced
        if answered:
            self.changes.answered(answer)
            self.heed(answer)
            if answer.whole and said.since:
                self.report()

    def heed(self, answer: Answer) -> None:
        if answer.chain is not None and answer.chain.generation > self.generation:
            self.take_chain(answer.chain.generation)
        if answer.assignment is not None:
            self.version = answer.assignment.version
            has = any(market.market_id == NAME for market in answer.assignment.markets)
            if not has:
                self.ledger = None
            elif self.ledger is None:
                self.take_up(answer)
        self.is_fresh = False
        if answer.publisher_epoch != self.publisher:
            self.publisher = answer.publisher_epoch
            self.sent = self.kept
            if self.is_live and self.ledger is not None:
                ts = self.changed_at if self.world.by_time else 0
                self.make_book(self.ledger.last, ts, SNAPSHOT | KEYFRAME)

    def take_chain(self, generation: int) -> None:
        """Discard everything, and collect another chain."""
        self.generation = generation
        self.blocks = self.world.blocks_of[generation]
        self.replacement = self.gap = None
        self.book, self.changed_at = -1, 0
        self.sent = self.kept = len(self.made)
        if self.ledger is not None:
            self.ledger = MarketLedger()

    def take_up(self, answer: Answer) -> None:
        self.book = -1
        point = answer.resume.get(NAME)
        if point is None:
            self.ledger = MarketLedger()
            return
        self.ledger = MarketLedger(point.first, point.last)
        ts = self.world.clock()
        self.gap = point.gap or Gap(NAME, ts, "open", "crash", point.last + 1, 0, ts)
        if point.gap is None:
            self.make("gap", KIND_GAP, 0, self.gap.first, self.gap.gap_id, self.gap)
        self.join()

    def notice(self) -> None:
        """See that the chain was replaced, and say so in the next report."""
        world = self.world
        if self.blocks is not world.blocks and not self.is_fresh:
            generation = world.generation_of(world.blocks, after=self.generation)
            self.replacement = world.record(generation)


class World:
    """The chains, two shards, one aggregator at a time, and all that was published."""

    def __init__(self, *, by_time: bool) -> None:
        self.by_time = by_time
        self.blocks = Blocks(0)
        self.blocks_of = {0: self.blocks}
        self.now = 10**15
        self.epochs = {100, 101}
        self.revision, self.wanted = 1, 0
        self.parts: list[bytes] = []
        self.wires: tuple[list[Batch], list[Batch]] = ([], [])
        """Batches of each shard that have not arrived."""
        self.published: dict[int, set[int]] = {}
        """Heights whose trades were published, by any aggregator; by the chain's number."""
        self.book = -1
        """The newest published sequence of the newest chain."""
        self._begin_epoch()
        self.aggregator = self.new_aggregator(Saved(), 5_000)
        self.shards = [Shard(0, self), Shard(1, self)]

    def clock(self) -> int:
        self.now += 1
        return self.now

    def new_aggregator(self, saved: Saved, epoch: int) -> Aggregator:
        config = AggregatorConfig(
            epoch=epoch,
            publish=(),
            pull="",
            link="",
            folder="",
            markets=(MARKET,),
            assignment={NAME: self.wanted},
            revision=self.revision,
            endpoints=Endpoints(),
            every_market=False,
        )
        publisher = Publisher(lambda part, flags=0, /: self.parts.append(part))
        return Aggregator(config, publisher, clock=self.clock, saved=saved)

    # ---- the chains ---------------------------------------------------------------------

    def record(self, generation: int) -> Chain:
        number = self.blocks_of[generation].number
        return Chain("injective-777", generation, (Mark(1, f"{number}", number + 1),))

    def generation_of(self, blocks: Blocks, *, after: int) -> int:
        """Return a generation of this chain; each shard that notices makes its own, by its clock."""
        generation = max(self.clock(), after + 1)
        self.blocks_of[generation] = blocks
        return generation

    @property
    def current(self) -> Blocks:
        """The chain that the aggregator publishes."""
        return self.blocks_of[self.aggregator.run.chain.generation]

    # ---- what is published ----------------------------------------------------------------

    def _begin_epoch(self) -> None:
        self.numbers: dict[bytes, int] = {}
        self.last_trades = self.last_change = 0

    def arrive(self, number: int) -> None:
        """The oldest batch of a shard arrives: it counts only if both of its processes live."""
        if not self.wires[number]:
            return
        header, records = self.wires[number].pop(0)
        aggregator = self.aggregator
        session = aggregator.sessions.get(number)
        is_met = session is not None and session.epoch == header.epoch
        is_ours = is_met and header.publisher_epoch == aggregator.run.config.epoch
        before = aggregator.forwarder.fenced
        aggregator.forwarder.receive(frames.encode(header), frames.encode(records))
        fenced = aggregator.forwarder.fenced - before
        assert fenced == (0 if is_ours else len(records))
        self.drain()
        self.check_ledger()

    def check_ledger(self) -> None:
        """No block is accounted for before its trades were published."""
        blocks, state = self.current, self.aggregator.coverage.states[NAME]
        assert state.last <= blocks.head
        due = {h for h in blocks.trades if 0 < state.first <= h <= state.last}
        assert due <= self.published.get(blocks.number, set())

    def drain(self) -> None:
        """Check all that was published."""
        parts, self.parts = self.parts, []
        for topic, body in zip(parts[::2], parts[1::2], strict=True):
            frame, event = frames.decode(body)
            assert frame.publisher_epoch == self.aggregator.run.config.epoch
            number = self.numbers[topic] = self.numbers.get(topic, 0) + 1
            assert frame.topic_sequence == number
            if isinstance(event, Trades):
                self.check_trades(event)
            elif isinstance(event, Book):
                self.check_book(event)

    def check_trades(self, event: Trades) -> None:
        blocks = self.current
        assert event.trades[0].price == str(blocks.number)
        assert event.height in blocks.trades
        assert event.height > self.last_trades
        self.last_trades = event.height
        self.published.setdefault(blocks.number, set()).add(event.height)

    def check_book(self, event: Book) -> None:
        blocks = self.current
        assert event.bids[0][0] == str(blocks.number)
        height = event.height or event.ts_event // S
        assert blocks.sequence[height] == event.sequence
        if event.is_snapshot:
            assert height >= self.last_change, "the book goes back"
        else:
            assert height > self.last_change
        self.last_change = height
        if blocks is self.blocks:
            self.book = event.sequence

    # ---- what happens ---------------------------------------------------------------------

    def replace_chain(self) -> None:
        self.blocks = Blocks(self.blocks.number + 1)
        self.blocks.block(with_trades=False, with_change=False)
        self.book = -1

    def report(self, number: int, *, arrives: bool = True, answered: bool = True) -> None:
        before = self.aggregator.run.config.epoch
        self.shards[number].report(arrives=arrives, answered=answered)
        if self.aggregator.run.config.epoch != before:
            self._begin_epoch()
            state = self.aggregator.coverage.states[NAME]
            assert (state.first, state.last) == (0, 0), "a new chain has a new ledger"
        self.drain()
        self.check_ledger()

    def kill_aggregator(self, epoch: int) -> None:
        saved = msgspec.msgpack.decode(msgspec.msgpack.encode(self.aggregator.ledger()), type=Saved)
        former = self.aggregator.run.config.epoch
        version = self.aggregator.handover.ownership.version
        self.revision += 1
        self.aggregator = self.new_aggregator(saved, epoch)
        assert self.aggregator.run.config.epoch > former
        assert self.aggregator.handover.ownership.version > version, "a shard may have that one"
        self._begin_epoch()

    def move(self) -> None:
        self.revision += 1
        self.wanted = 1 - self.wanted
        steering = Steering(
            revision=self.revision,
            markets=[MARKET],
            assignment={NAME: self.wanted},
            every_market=False,
            listed_through=0,
        )
        self.aggregator.steer(steering)
        self.drain()

    def finish(self) -> None:
        """Let everything come to rest."""
        for _ in range(12):
            for shard in self.shards:
                shard.notice()
                self.report(shard.number)
                shard.join()
                for _ in range(self.blocks.head + 2):
                    shard.hear()
                shard.join()
                shard.push(10_000)
                while self.wires[shard.number]:
                    self.arrive(shard.number)
                self.report(shard.number)
            self.blocks.block(with_trades=True, with_change=True)

    def check(self) -> None:
        self.finish()
        assert self.current is self.blocks
        state = self.aggregator.coverage.states[NAME]
        blocks = self.blocks
        assert (state.first > 0, state.missing) == (True, [])
        assert state.last >= blocks.head - 2
        assert self.book == blocks.sequence[state.last]
        assert (self.aggregator.handover.joins, state.shard) == ({}, self.wanted)


class Resets(RuleBasedStateMachine):
    """Steps of the chain, the shards and the aggregator; `teardown` compares."""

    @initialize(by_time=st.booleans(), blocks=st.integers(0, 3))
    def begin(self, by_time: bool, blocks: int) -> None:
        self.world = World(by_time=by_time)
        for _ in range(blocks):
            self.world.blocks.block(with_trades=True, with_change=True)

    @rule(trades=st.booleans(), change=st.booleans(), heard=st.integers(0, 3))
    def block(self, trades: bool, change: bool, heard: int) -> None:
        self.world.blocks.block(with_trades=trades, with_change=change)
        for shard in self.world.shards:
            if heard & 1 << shard.number:
                shard.hear()

    @rule(who=WHO, count=st.integers(1, 4))
    def hear(self, who: int, count: int) -> None:
        for _ in range(count):
            self.world.shards[who].hear()

    @rule(who=WHO)
    def join(self, who: int) -> None:
        self.world.shards[who].join()

    @rule(who=WHO, count=st.integers(1, 6), arrives=st.booleans())
    def push(self, who: int, count: int, arrives: bool) -> None:
        self.world.shards[who].push(count)
        if arrives:
            self.world.arrive(who)

    @rule(who=WHO, count=st.integers(1, 3))
    def batches_arrive(self, who: int, count: int) -> None:
        for _ in range(count):
            self.world.arrive(who)

    @rule(who=WHO)
    def report(self, who: int) -> None:
        self.world.report(who)

    @rule(who=WHO, arrives=st.booleans())
    def report_is_lost(self, who: int, arrives: bool) -> None:
        """Or its answer is."""
        self.world.report(who, arrives=arrives, answered=False)

    @rule(sequence=st.integers(0, 4))
    def sequence_begins_again(self, sequence: int) -> None:
        self.world.blocks.count_again(sequence)

    @precondition(lambda self: self.world.blocks.number < 3)
    @rule()
    def chain_is_replaced(self) -> None:
        self.world.replace_chain()

    @rule(who=WHO)
    def shard_notices(self, who: int) -> None:
        self.world.shards[who].notice()

    @precondition(lambda self: not self.world.by_time)
    @rule(who=WHO, epoch=st.integers(1, 200), in_flight=st.integers(0, 3))
    def shard_dies(self, who: int, epoch: int, in_flight: int) -> None:
        """Its successor's clock may have been set back; frames of it may still be on their way."""
        shard = self.world.shards[who]
        if epoch in self.world.epochs:
            return
        self.world.epochs.add(epoch)
        shard.push(in_flight)
        shard.epoch = epoch
        shard.begin()

    @rule(epoch=st.integers(1, 10_000))
    def aggregator_dies(self, epoch: int) -> None:
        """Its successor's clock may have been set back, or forward."""
        self.world.kill_aggregator(epoch)

    @rule()
    def market_moves(self) -> None:
        self.world.move()

    @rule(seconds=st.sampled_from([-3_600, 3_600]))
    def clock_is_set(self, seconds: int) -> None:
        self.world.now = max(10**14, self.world.now + seconds * S)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.check()


TestResets: Any = Resets.TestCase
TestResets.settings = settings(
    max_examples=examples(120),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


# ---- the same steps in an order that needs each guard ------------------------------------------


def begun(*, by_time: bool = False) -> World:
    """Three blocks, published by shard 0 and accounted for."""
    world = World(by_time=by_time)
    world.blocks.block(with_trades=True, with_change=True)
    world.report(0)
    for _ in range(4):
        world.shards[0].hear()
        world.blocks.block(with_trades=True, with_change=True)
    follow(world, 0)
    world.report(0)
    world.report(0)
    assert world.aggregator.coverage.states[NAME].last == world.blocks.head
    return world


def follow(world: World, number: int, *, arrives: bool = True) -> None:
    """One shard hears all blocks, has its book, and sends everything."""
    shard = world.shards[number]
    for _ in range(world.blocks.head):
        shard.hear()
    shard.join()
    shard.push(1_000)
    while arrives and world.wires[number]:
        world.arrive(number)


@pytest.mark.parametrize("since", [0, 4], ids=["below the former one", "at the former one"])
def test_a_successor_that_takes_up_before_a_restarted_sequence_takes_no_book_back(
    since: int,
) -> None:
    world = begun()
    assert world.book == 5
    world.blocks.count_again(1)
    follow(world, 0)
    for _ in range(since):
        world.blocks.block(with_trades=True, with_change=True)
    follow(world, 0)
    assert world.book == 1 + since
    shard = world.shards[0]
    shard.epoch = 500
    shard.begin()
    world.report(0)
    follow(world, 0)
    world.check()


def test_nor_does_a_market_that_moves_meanwhile_where_changes_name_no_height() -> None:
    world = begun(by_time=True)
    world.move()
    world.report(1)
    world.report(0)
    for _ in range(2):
        world.blocks.block(with_trades=True, with_change=True)
        world.shards[1].hear()
        world.shards[1].join()
        follow(world, 0)
    follow(world, 1)
    assert world.aggregator.handover.joins
    world.blocks.count_again(1)
    follow(world, 0)
    world.check()


def test_nor_one_whose_new_owner_saw_the_restart_first() -> None:
    world = begun()
    world.move()
    world.report(1)
    for _ in range(2):
        world.blocks.block(with_trades=True, with_change=True)
        world.shards[1].hear()
        world.shards[1].join()
        follow(world, 0)
    world.blocks.count_again(1)
    follow(world, 1)
    world.report(1)
    world.report(1)
    world.report(0)
    world.report(0)
    assert not world.aggregator.handover.joins
    assert world.book == 1
    world.check()


def test_nor_one_that_moves_after_the_restart_when_only_the_next_aggregator_saw_it() -> None:
    world = World(by_time=False)
    world.blocks.block(with_trades=True, with_change=True)
    for _ in range(7):
        world.move()
    world.report(1)
    world.move()
    world.shards[1].hear()
    for _ in range(3):
        world.move()
    world.kill_aggregator(1)
    world.blocks.count_again(0)
    world.check()


def test_frames_held_for_a_handover_end_with_their_chain() -> None:
    world = begun()
    world.move()
    world.report(1)
    world.blocks.block(with_trades=True, with_change=True)
    follow(world, 1)
    world.blocks.block(with_trades=True, with_change=True)
    follow(world, 1)
    (join,) = world.aggregator.handover.joins.values()
    assert join.held
    world.replace_chain()
    world.shards[0].notice()
    world.report(0)
    world.check()


def test_a_report_whose_frames_had_not_arrived_ends_with_its_chain() -> None:
    world = World(by_time=False)
    world.blocks.block(with_trades=True, with_change=True)
    world.report(0)
    world.report(1)
    for _ in range(4):
        world.shards[0].hear()
        world.blocks.block(with_trades=True, with_change=True)
    world.report(0)
    world.replace_chain()
    world.shards[1].notice()
    world.report(1)
    world.report(0)
    world.blocks.block(with_trades=True, with_change=True)
    follow(world, 0)
    world.blocks.block(with_trades=True, with_change=True)
    follow(world, 0)
    world.check()


def test_a_batch_for_a_dead_aggregator_is_refused_by_the_next() -> None:
    world = begun()
    world.blocks.block(with_trades=True, with_change=True)
    follow(world, 0, arrives=False)
    world.kill_aggregator(1)
    world.report(0)
    world.arrive(0)
    assert world.aggregator.forwarder.fenced
    world.check()


def test_processes_whose_clock_went_back_are_not_taken_for_their_predecessors() -> None:
    world = begun()
    shard = world.shards[0]
    shard.epoch = 7
    shard.begin()
    world.report(0)
    follow(world, 0)
    for _ in range(3):
        world.move()
    world.report(1)
    # The versions of the next one's assignments must not be those of this one.
    world.kill_aggregator(1)
    world.move()
    world.report(1)
    world.move()
    world.check()
