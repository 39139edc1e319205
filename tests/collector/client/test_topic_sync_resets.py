"""
The subscriber where everything may begin again: the chain, a book's sequence, the aggregator.

A machine takes steps in any order; a naive model keeps the facts of the chain that is. In the
end the reader has each of them once and in order, or named as lost, nothing of a chain that is
no more after it was told of the new one, and each book as it is.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from collector.client.received import ChainReplaced, Joined, Lost, Received
from collector.client.whole_book import load_or_apply
from shards.protocol.events import Book, Gap, Trades
from shards.protocol.order_book import OrderBook
from tests.collector.client.scripted_publisher import snapshot
from tests.collector.client.test_topic_sync import COUNTS, SYMBOLS, World, moment_of
from tests.searches import examples

BITS = st.integers(0, 63)


class Chains(World):
    """The world of the other tests; another chain may replace its chain."""

    def __init__(self, frames_per_topic: int, by_time: bool) -> None:
        super().__init__(frames_per_topic=frames_per_topic, by_time=by_time, first_sequence=COUNTS)
        self.chain = 0
        self.began_at = 0
        """Index in `ready` from which on only this chain's facts are due."""

    def another_chain(self, height: int, sequence: int) -> None:
        """Begin another chain: heights and sequences low, a new epoch, nothing of the old."""
        self.chain += 1
        self.facts.clear()
        self.forgotten = 0
        self.height = height
        # A shard creates new books (`Pipeline.start_over`): they have no time yet.
        self.changed_at = dict.fromkeys(SYMBOLS, 0)
        for book in self.books.values():
            book.load(COUNTS - 50 + sequence, [], [])
        self.restarts = 0
        self.restart(0)
        for symbol in SYMBOLS:
            self.publish(symbol, snapshot(symbol, self.height, self.books[symbol]))

    def restart(self, n: int) -> None:
        super().restart(n)
        self.script.history.chain = self.chain


class Resets(RuleBasedStateMachine):
    """Steps of the chain, the wire and the aggregator; `teardown` compares."""

    @initialize(frames=st.sampled_from([3, 8, 64]), before=st.integers(0, 4), by_time=st.booleans())
    def begin(self, frames: int, before: int, by_time: bool) -> None:
        self.world = Chains(frames, by_time)
        self.world.losing = True
        for _ in range(before):
            self.world.block(27)
        self.world.losing = False
        self.world.turn()

    @rule(bits=BITS)
    def block(self, bits: int) -> None:
        self.world.block(bits)

    @rule(seconds=st.sampled_from([0.4, 1.0, 2.5]))
    def turn(self, seconds: float) -> None:
        self.world.turn(seconds)

    @rule(frames=st.booleans(), replies=st.booleans(), doubled=st.booleans())
    def weather(self, frames: bool, replies: bool, doubled: bool) -> None:
        self.world.losing, self.world.losing_replies = frames, replies
        self.world.doubling = doubled

    @rule(bits=BITS)
    def resync(self, bits: int) -> None:
        self.world.resync(bits)

    @rule(bits=BITS)
    def sequence_begins_again(self, bits: int) -> None:
        self.world.begin_again(bits)

    @rule(kept=st.integers(0, 40))
    def new_epoch(self, kept: int) -> None:
        """Of a greater number, or, the clock having been set back, of a smaller one."""
        self.world.restart(kept)

    @precondition(lambda self: self.world.chain < 3)
    @rule(height=st.integers(1, 120), sequence=st.integers(0, 99))
    def chain_is_replaced(self, height: int, sequence: int) -> None:
        self.world.another_chain(height, sequence)

    @rule(count=st.integers(1, 30))
    def replay_of_old_frames(self, count: int) -> None:
        """The wire brings what it brought before once more."""
        for topic, body in self.world.sent[-count:]:
            self.world.inbox.receive(topic, body, 7)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            check(self.world)


def check(world: Chains) -> None:
    """Compare what the reader was given with the facts of the chain that is."""
    out = since_the_last_chain(world.settle(), world.chain)
    for symbol in SYMBOLS:
        check_book(world, symbol, [r for r in out if r.topic == f"book.{symbol}."])
        check_heights(world, symbol, [r for r in out if r.topic == f"trades.{symbol}."])
        gaps = [r.event for r in out if r.topic == f"gap.{symbol}."]
        told = [event.gap_id for event in gaps if isinstance(event, Gap)]
        assert told == sorted(set(told))
        assert set(told) <= {e.gap_id for s, e in world.facts if s == symbol and type(e) is Gap}


def since_the_last_chain(out: list[Received], chain: int) -> list[Received]:
    """Return the events after the last `ChainReplaced`, which comes once, or not at all."""
    told = [n for n, received in enumerate(out) if isinstance(received.event, ChainReplaced)]
    assert len(told) <= chain
    assert isinstance(out[0].event, Joined)
    return out[told[-1] :] if told else out


def check_book(world: Chains, symbol: str, out: list[Received]) -> None:
    book, in_sync = OrderBook(symbol), False
    heights: list[int] = []
    for event in (received.event for received in out):
        if isinstance(event, Lost):
            in_sync = False
        elif isinstance(event, Book):
            heights += [] if event.is_snapshot else [moment_of(event)]
            in_sync = in_sync or event.is_snapshot
            if in_sync:
                load_or_apply(book, event)
    assert heights == sorted(set(heights))
    true = {moment_of(e) for s, e in world.facts if s == symbol and isinstance(e, Book)}
    assert set(heights) <= true
    assert in_sync
    mine, due = world.books[symbol], (book.sequence, book.levels())
    assert due == (mine.sequence, mine.levels())


def check_heights(world: Chains, symbol: str, out: list[Received]) -> None:
    got = [r.event.height for r in out if isinstance(r.event, Trades)]
    losses = [r.event for r in out if isinstance(r.event, Lost)]
    true = {e.height for s, e in world.facts if s == symbol and isinstance(e, Trades)}
    assert got == sorted(set(got))
    assert set(got) <= true
    lost: set[int] = set()
    for loss in losses:
        lost.update(range(loss.first, loss.last + 1))
    assert not lost & set(got)
    if got:
        # From the first that was handed out on, nothing is missing without a name.
        assert {height for height in true if height > got[0]} <= set(got) | lost


def test_a_new_chains_books_carry_no_time_of_the_former_chain() -> None:
    """
    A shard that meets another chain creates new books, without the time of the newest change.

    A whole book with a time of the former chain would be later than each change of the new one:
    with a lower sequence, a reader has to take it for a restarted sequence.
    """
    state = Resets()
    state.begin(frames=3, before=0, by_time=True)
    state.block(bits=1)
    state.chain_is_replaced(height=1, sequence=0)
    state.resync(bits=0)
    state.block(bits=1)
    state.turn(seconds=0.4)
    state.new_epoch(kept=2)
    state.teardown()


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_book_without_a_time_that_began_again_is_seen_by_the_whole_books_height(
    goes_on: bool,
) -> None:
    """
    The reader knows a height and no time, the changes of the new count have times and no height.

    They may be older than the book or later. The aggregator's whole book tells, because it names
    a height, also if changes follow it.
    """
    world = Chains(3, by_time=True)
    world.turn()
    world.restart(0)
    world.begin_again(0)
    for _ in range(4):
        world.block(1)
    world.turn(0.4)
    for symbol in SYMBOLS if goes_on else ():
        world.script.keyframe(symbol, world.keyframe(symbol))
    if goes_on:
        world.block(1)
        for _ in range(4):
            world.turn()
        told = [r.event for r in world.inbox.ready if r.topic == f"book.{SYMBOLS[0]}."]
        assert isinstance(told[-1], Book)
        assert told[-1].sequence == world.books[SYMBOLS[0]].sequence
    check(world)


TestResets: Any = Resets.TestCase
TestResets.settings = settings(
    max_examples=examples(150),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
