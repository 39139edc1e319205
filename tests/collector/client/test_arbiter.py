"""
First copy wins, held against a naive model.

Several cells collect one chain. Each has its own epochs, its own clock, its own lag, its own faults:
blocks that its shards missed and replayed or not, frames and answers that the wire lost, restarts
with and without a backlog, silence, lies. The model knows the chain's facts alone. The reader must
have each once and in order, or named as lost, which is allowed only where no cell had it. Where one
cell is sound, nothing is lost and no gap is delivered.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from collector.aggregator.replay_buffer import ReplayBuffer
from collector.client.cells.arbiter import Arbiter
from collector.client.received import Joined, Lost, Received, Unanswered
from collector.client.topic_filter import Wanted
from collector.client.topic_sync import Inbox
from collector.client.whole_book import load_or_apply
from shards.protocol.events import Book, Gap, Ticker, Trades
from shards.protocol.order_book import OrderBook
from tests.collector.client.scripted_publisher import (
    Script,
    delta,
    gap,
    market_id,
    snapshot,
)
from tests.collector.client.test_topic_sync import COUNTS, SYMBOLS, World
from tests.searches import examples

CHANNELS = ("book", "trades", "ticker", "gap")
NO_GAPS = 0o33
"""Of a block's bits: book changes and trades of both markets, and no gaps of the world's own."""
TURNS = 16
RANGES = 3
"""What cells lost is forgotten when it is too late for the others to lose it as well."""
NEXT = [COUNTS - 99, COUNTS - 98, COUNTS - 97]
"""The first changes of a book whose sequence restarted."""


class CellWorld(World):
    """One cell: a world of its own on a chain that others collect too."""

    def __init__(self, number: int, frames_per_topic: int, source: str = "") -> None:
        """``source``: that of trades, if it is another one, whose trades have ids and may come late."""
        self.number = number
        self.source = source
        self.behind: list[int] = []
        """Blocks of the chain that it has not collected yet."""
        self.is_frozen = False
        self.late: list[tuple[bytes, bytes]] = []
        """What it published while the wire to it was frozen."""
        self.is_lying = False
        self.is_starting = False
        self.began = 0
        """Height at which it began, if it was started later than the reader."""
        super().__init__(frames_per_topic=frames_per_topic, with_tickers=True)
        self.begin_topics()

    def begin_topics(self) -> None:
        """An aggregator has all topics of a market once its shard has begun with it."""
        for topic in (f"{channel}.{symbol}." for channel in CHANNELS for symbol in SYMBOLS):
            self.script.history.begin(topic, self.height + 1)

    def new_inbox(self, markets: Iterable[str]) -> Inbox:
        return Inbox(Wanted(markets, CHANNELS), held_frames=6, replays=2, beginnings=True)

    def start(self) -> None:
        """Be an aggregator whose shards have nothing yet."""
        self.is_starting = True
        self.script = Script(1, ReplayBuffer(self.frames_per_topic))
        self.facts.clear()
        self.sent.clear()
        self.inbox = self.new_inbox(["*"])

    def go_live(self) -> None:
        """Begin with the newest block: those before it are nothing to this cell."""
        if not self.is_starting:
            return
        self.is_starting = False
        for bits in self.behind:
            self._pass_over(bits)
        self.behind.clear()
        self.began = self.height
        self.begin_topics()
        self.script.head = self.height
        for symbol, book in self.books.items():
            self.publish(symbol, snapshot(symbol, self.height, book))

    def restart(self, n: int) -> None:
        if not self.is_starting:
            super().restart(n)
            for kept in self.script.history._topics.values():
                kept.from_height = max(kept.from_height, self.began + 1)

    def wire(self, topic: bytes, body: bytes) -> None:
        if self.is_frozen:
            self.late.append((topic, body))
        else:
            super().wire(topic, body)

    def publish(self, symbol: str, event: Any) -> None:
        if self.is_lying and isinstance(event, Trades):
            lie = msgspec.structs.replace(event.trades[0], price="666.000000000000000000")
            event = msgspec.structs.replace(event, trades=[lie])
        if self.source and isinstance(event, Trades):
            event = msgspec.structs.replace(event, source=self.source)
        super().publish(symbol, event)

    def turn(self, seconds: float = 1.0) -> None:
        if self.is_frozen:
            self.now += seconds
            self.inbox.tick(self.now)
            # Nobody answers.
            self.inbox.requests.clear()
            return
        super().turn(seconds)

    def keep_books(self) -> None:
        """The aggregator has a whole book of each market."""
        if self.is_starting:
            return
        for symbol, book in self.books.items():
            self.script.keyframe(symbol, snapshot(symbol, self.height, book))

    def thaw(self) -> None:
        self.is_frozen = False
        late, self.late = self.late, []
        for topic, body in late:
            super().wire(topic, body)

    def collect(self, blocks: int) -> None:
        """Collect the next blocks of the chain."""
        blocks = 0 if self.is_starting else blocks
        now, self.behind = self.behind[:blocks], self.behind[blocks:]
        for bits in now:
            self.block(bits)

    def miss(self, blocks: int, *, filled: bool, named_late: bool) -> None:
        """Miss blocks; the shard replays them, or goes on with whole books."""
        blocks = 0 if self.is_starting else blocks
        missed, self.behind = self.behind[:blocks], self.behind[blocks:]
        if not missed:
            return
        first, gap_ids = self.height + 1, {}
        for symbol in SYMBOLS:
            self.gaps += 1
            gap_ids[symbol] = self.gaps * 10 + self.number
            self.publish(symbol, gap(symbol, gap_ids[symbol], first))
        for bits in missed:
            if filled:
                self.block(bits)
            else:
                self._pass_over(bits)
        last = self.height
        if not filled:
            for symbol, book in self.books.items():
                self.publish(symbol, snapshot(symbol, self.height, book))
        if named_late:
            self.collect(1)
        for symbol in SYMBOLS:
            closed = gap(symbol, gap_ids[symbol], first, last)
            if not filled:
                closed = msgspec.structs.replace(closed, state="open")
            self.publish(symbol, closed)
        self.script.head = self.height

    def _pass_over(self, bits: int) -> None:
        self.height += 1
        for i, symbol in enumerate(SYMBOLS):
            if bits >> (3 * i) & 1:
                book = self.books[symbol]
                load_or_apply(book, delta(symbol, self.height, book.sequence + 1))


class Cells:
    """The cells, the arbiter over them, and the chain's facts."""

    def __init__(self, cells: int, frames: int, source: str = "") -> None:
        self.source = source
        self.worlds = [CellWorld(number, frames, source) for number in range(cells)]
        named = [(f"cell {world.number}", world.inbox) for world in self.worlds]
        self.arbiter = Arbiter(named, CHANNELS)
        self.out: list[Received] = []
        self.now = 0.0
        # The facts, as a world without faults has them.
        self.truth = World(with_tickers=True)
        self.bits: list[int] = []

    def join(self, frames: int) -> None:
        """One more cell, which has collected everything so far; it is read from here on."""
        world = CellWorld(len(self.worlds), frames, self.source)
        world.behind = list(self.bits)
        world.losing = True
        world.collect(len(world.behind))
        world.losing = False
        world.keep_books()
        self.worlds.append(world)
        self.arbiter.add(f"cell {world.number}", world.inbox)

    def start(self, frames: int) -> None:
        """One more cell, which is only starting."""
        world = CellWorld(len(self.worlds), frames, self.source)
        world.behind = list(self.bits)
        world.start()
        self.worlds.append(world)
        self.arbiter.add(f"cell {world.number}", world.inbox)

    def block(self, bits: int) -> None:
        self.bits.append(bits & NO_GAPS)
        self.truth.block(bits & NO_GAPS)
        for world in self.worlds:
            world.behind.append(bits & NO_GAPS)

    def turn(self, seconds: float) -> None:
        self.now += seconds
        for world in self.worlds:
            world.turn(seconds)
        self.take()

    def take(self) -> None:
        self.arbiter.turn(self.now)
        self.out += self.arbiter.ready
        self.arbiter.ready.clear()

    def settle(self) -> list[Received]:
        for world in self.worlds:
            world.losing = world.losing_replies = world.doubling = False
            world.thaw()
            world.go_live()
            world.collect(len(world.behind))
            world.keep_books()
        for _ in range(TURNS):
            self.turn(1.0)
        return self.out


class FirstCopyWins(RuleBasedStateMachine):
    """Steps of the chain and of each cell; `teardown` compares."""

    @initialize(
        cells=st.integers(1, 3),
        frames=st.sampled_from([3, 8, 64]),
        sound=st.booleans(),
        before=st.integers(0, 4),
        source=st.sampled_from(["", "indexer-grpc"]),
    )
    def begin(self, cells: int, frames: int, sound: bool, before: int, source: str = "") -> None:
        self.cells = Cells(cells, frames, source)
        self.is_sound = sound
        for _ in range(before):
            self.cells.block(27)
        for world in self.cells.worlds:
            world.losing = True
            world.collect(before)
            world.losing = False
            world.keep_books()
        self.cells.turn(1.0)

    def world(self, number: int) -> CellWorld:
        """Choose a cell; a sound one is left alone."""
        worlds = self.cells.worlds
        if self.is_sound:
            # The first one has no faults.
            worlds = worlds[1:] or [CellWorld(9, 3)]
        return worlds[number % len(worlds)]

    @rule(bits=st.integers(0, 63), lag=st.integers(0, 7))
    def block(self, bits: int, lag: int) -> None:
        """One block; some cells have it at once, the others later."""
        self.cells.block(bits)
        for world in self.cells.worlds:
            if not lag >> world.number & 1 or (self.is_sound and not world.number):
                world.collect(len(world.behind))
        self.cells.take()

    @rule(seconds=st.sampled_from([0.4, 1.0, 2.5]))
    def turn(self, seconds: float) -> None:
        self.cells.turn(seconds)

    @rule(number=st.integers(0, 2), blocks=st.integers(1, 9))
    def catch_up(self, number: int, blocks: int) -> None:
        self.cells.worlds[number % len(self.cells.worlds)].collect(blocks)
        self.cells.take()

    @rule(
        number=st.integers(0, 2),
        blocks=st.integers(1, 5),
        filled=st.booleans(),
        named_late=st.booleans(),
    )
    def miss(self, number: int, blocks: int, filled: bool, named_late: bool) -> None:
        self.world(number).miss(blocks, filled=filled, named_late=named_late)

    @rule(
        number=st.integers(0, 2), frames=st.booleans(), replies=st.booleans(), doubled=st.booleans()
    )
    def weather(self, number: int, frames: bool, replies: bool, doubled: bool) -> None:
        world = self.world(number)
        world.losing, world.losing_replies, world.doubling = frames, replies, doubled

    @rule(number=st.integers(0, 2), kept=st.integers(0, 40))
    def restart(self, number: int, kept: int) -> None:
        """Of a greater epoch, or, the clock having been set back, of a smaller one."""
        self.world(number).restart(kept)

    @rule(number=st.integers(0, 2))
    def freeze(self, number: int) -> None:
        self.world(number).is_frozen = True

    @rule(number=st.integers(0, 2))
    def thaw(self, number: int) -> None:
        self.world(number).thaw()
        self.cells.take()

    @precondition(lambda self: len(self.cells.worlds) > 1)
    @rule(number=st.integers(0, 2))
    def lie(self, number: int) -> None:
        self.world(number).is_lying = True

    @precondition(lambda self: len(self.cells.worlds) < 4)
    @rule(frames=st.sampled_from([3, 64]))
    def join(self, frames: int) -> None:
        """One more cell is read, as when a cluster starts one."""
        self.cells.join(frames)

    @precondition(lambda self: len(self.cells.worlds) < 4)
    @rule(frames=st.sampled_from([3, 64]))
    def start(self, frames: int) -> None:
        """One more cell is read that has nothing yet."""
        self.cells.start(frames)

    @rule(number=st.integers(0, 3))
    def go_live(self, number: int) -> None:
        self.cells.worlds[number % len(self.cells.worlds)].go_live()

    @rule(number=st.integers(0, 2), count=st.integers(1, 30))
    def replay_of_old_frames(self, number: int, count: int) -> None:
        world = self.world(number)
        for topic, body in world.sent[-count:]:
            world.inbox.receive(topic, body, 7)

    def teardown(self) -> None:
        if hasattr(self, "cells"):
            check(self.cells, is_sound=self.is_sound)


def check(cells: Cells, *, is_sound: bool) -> None:
    out = cells.settle()
    joined = next(r.event for r in out if not isinstance(r.event, Unanswered))
    assert isinstance(joined, Joined)
    for symbol in SYMBOLS:
        named = check_gaps([r for r in out if r.topic == f"gap.{symbol}."])
        check_book(cells, symbol, [r for r in out if r.topic == f"book.{symbol}."])
        check_trades(
            cells, symbol, joined.head, [r for r in out if r.topic == f"trades.{symbol}."], named
        )
        check_tickers(cells, symbol, [r for r in out if r.topic == f"ticker.{symbol}."])
    if is_sound:
        assert not [r for r in out if isinstance(r.event, Lost | Gap | Unanswered)]
        assert not cells.arbiter.cells[0].differences or any(w.is_lying for w in cells.worlds)


def check_gaps(out: Sequence[Received]) -> set[int]:
    """Each gap is delivered once, and ends; return the heights that are named as missing."""
    named: set[int] = set()
    opened: list[int] = []
    for event in (r.event for r in out if isinstance(r.event, Gap)):
        if event.state == "open" and not event.last:
            assert not opened
            opened.append(event.gap_id)
            continue
        if event.state == "closed":
            assert opened == [event.gap_id]
        else:
            named.update(range(event.first, event.last + 1))
        opened.clear()
    assert not opened
    return named


def check_book(cells: Cells, symbol: str, out: Sequence[Received]) -> None:
    """Every change once, in order, or named as lost; and the book at the end is the book."""
    book, in_sync, first = OrderBook(symbol), False, -1
    got: list[int] = []
    lost: set[int] = set()
    for event in (received.event for received in out):
        if isinstance(event, Lost):
            lost.update(range(event.first, event.last + 1))
            in_sync = False
        elif isinstance(event, Book):
            assert event.market_id == market_id(symbol)
            first = event.sequence if first < 0 else first
            got += [] if event.is_snapshot else [event.sequence]
            in_sync = in_sync or event.is_snapshot
            if in_sync:
                load_or_apply(book, event)
    true = [
        e.sequence
        for s, e in cells.truth.facts
        if s == symbol and isinstance(e, Book) and not e.is_snapshot
    ]
    assert got == sorted(set(got))
    assert not lost & set(got)
    assert [s for s in true if s > first] == sorted((lost & set(true)) | set(got))
    mine = cells.truth.books[symbol]
    assert in_sync
    assert (book.sequence, book.levels()) == (mine.sequence, mine.levels())


def check_trades(
    cells: Cells, symbol: str, head: int, out: Sequence[Received], named: set[int]
) -> None:
    got = [r.event.height for r in out if isinstance(r.event, Trades)]
    losses = [r.event for r in out if isinstance(r.event, Lost)]
    lost = {h for loss in losses for h in range(loss.first, loss.last + 1)}
    true = [e for s, e in cells.truth.facts if s == symbol and isinstance(e, Trades)]
    assert len(lost) == sum(loss.last - loss.first + 1 for loss in losses), "named once"
    if cells.source:
        # Late, but once.
        assert len(got) == len(set(got))
    else:
        assert got == sorted(set(got))
        assert not lost & set(got)
    assert set(got) <= {e.height for e in true}
    assert {e.height for e in true if e.height > head} <= set(got) | lost | named
    events = {e.height: e.trades for e in true}
    if not any(world.is_lying for world in cells.worlds):
        for received in out:
            if isinstance(received.event, Trades):
                assert received.event.trades == events[received.event.height]
    merge = cells.arbiter._merges.get(f"trades.{symbol}.")
    assert merge is None or all(len(list(side.lost)) <= RANGES for side in merge.sides)


def check_tickers(cells: Cells, symbol: str, out: Sequence[Received]) -> None:
    got = [r.event.sequence for r in out if isinstance(r.event, Ticker)]
    true = [e.sequence for s, e in cells.truth.facts if s == symbol and isinstance(e, Ticker)]
    assert got == sorted(set(got))
    assert set(got) <= set(true)


TestFirstCopyWins: Any = FirstCopyWins.TestCase
TestFirstCopyWins.settings = settings(
    max_examples=examples(150),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_a_cell_that_lags_is_waited_for_where_the_other_left_something_out() -> None:
    cells = Cells(2, 64)
    slow, quick = cells.worlds
    for world in cells.worlds:
        world.keep_books()
    cells.turn(1.0)
    for bits in (27, 27, 27, 27, 27, 27):
        cells.block(bits)
    quick.collect(1)
    quick.miss(3, filled=False, named_late=True)
    quick.collect(9)
    cells.take()
    cells.turn(0.4)
    slow.collect(9)
    check(cells, is_sound=True)


def steps(**begin: Any) -> FirstCopyWins:
    state = FirstCopyWins()
    state.begin(**{"cells": 1, "frames": 3, "sound": False, "before": 0} | begin)
    return state


def trades_of(out: Sequence[Received]) -> list[int | tuple[int, int]]:
    """Return the heights of the trades of the first market, and the ranges named as lost."""
    events = [r.event for r in out if r.topic == f"trades.{SYMBOLS[0]}."]
    return [
        event.height if isinstance(event, Trades) else (event.first, event.last)
        for event in events
        if isinstance(event, Trades | Lost)
    ]


def test_a_gap_is_named_although_a_cell_joins_that_has_only_later_blocks() -> None:
    state = steps()
    state.freeze(number=0)
    state.block(bits=2, lag=1)
    state.miss(blocks=1, filled=False, named_late=False, number=0)
    state.join(frames=3)
    state.turn(seconds=0.4)
    out = state.cells.settle()
    gaps = [r.event for r in out if r.topic == f"gap.{SYMBOLS[0]}."]
    assert [(gap.state, gap.first, gap.last) for gap in gaps if isinstance(gap, Gap)] == [
        ("open", 101, 101)
    ]
    state.teardown()


def test_a_gap_is_not_closed_by_a_cell_that_joins_behind_it() -> None:
    state = steps()
    first = state.cells.worlds[0]
    first.publish(SYMBOLS[0], gap(SYMBOLS[0], 7, 101))
    state.cells.take()
    first.is_frozen = True
    for _ in range(3):
        state.block(bits=2, lag=1)
    for _ in range(6):
        state.turn(seconds=1.0)
    state.join(frames=3)
    state.turn(seconds=1.0)
    found = [r.event for r in state.cells.out if r.topic == f"gap.{SYMBOLS[0]}."]
    assert [(gap.state, gap.first, gap.last) for gap in found if isinstance(gap, Gap)] == [
        ("open", 101, 0),
        ("open", 101, 103),
    ]


def test_the_first_event_of_a_cell_that_joined_later_passes_over_nothing() -> None:
    state = steps(frames=64)
    state.freeze(number=0)
    state.block(bits=2, lag=0)
    state.join(frames=64)
    state.turn(seconds=0.4)
    state.block(bits=2, lag=0)
    state.thaw(number=0)
    state.teardown()
    assert trades_of(state.cells.out) == [101, 102]


def test_what_the_first_cell_lost_is_named_although_another_one_joined_since() -> None:
    state = steps()
    state.join(frames=3)
    state.weather(number=0, frames=True, replies=False, doubled=False)
    for _ in range(4):
        state.block(bits=2, lag=0)
    state.teardown()
    assert trades_of(state.cells.out) == [(101, 101), 102, 103, 104]


@pytest.mark.parametrize("before", [0, 1])
def test_the_position_stays_before_what_a_cell_that_joined_later_lacks(before: int) -> None:
    state = steps(frames=64)
    for _ in range(before):
        state.block(bits=2, lag=0)
    state.freeze(number=0)
    state.block(bits=2, lag=0)
    state.join(frames=64)
    for _ in range(6):
        state.turn(seconds=1.0)
    assert not state.cells.arbiter.cells[0].answers
    positions = {one.topic: one for one in state.cells.arbiter.positions()}
    assert positions[f"trades.{SYMBOLS[0]}."].complete == 100 + before


@pytest.mark.parametrize("turns", [0, 1])
def test_a_cell_that_was_only_starting_does_not_hide_what_it_lacks(turns: int) -> None:
    """The other one ends just before: as when cells are restarted one after the other."""
    state = steps(frames=64)
    state.cells.start(64)
    state.turn(seconds=1.0)
    state.block(bits=2, lag=0)
    state.freeze(number=0)
    for _ in range(2):
        state.block(bits=2, lag=1)
    state.cells.worlds[1].go_live()
    for _ in range(turns):
        state.turn(seconds=1.0)
    state.block(bits=2, lag=1)
    for _ in range(TURNS):
        state.turn(seconds=1.0)
    assert trades_of(state.cells.out) == [101, (102, 103), 104]


@pytest.mark.parametrize("by_time", [False, True], ids=["with heights", "with times alone"])
def test_a_book_whose_sequence_begins_again_goes_on(by_time: bool) -> None:
    worlds = [
        World(with_tickers=True, by_time=by_time, first_sequence=COUNTS - 10) for _ in range(2)
    ]
    arbiter = Arbiter([(f"cell {n}", world.inbox) for n, world in enumerate(worlds)], CHANNELS)

    def turn() -> None:
        for world in worlds:
            world.turn()
        arbiter.turn(worlds[0].now)

    turn()
    for again in (False, True):
        for world in worlds:
            if again:
                world.begin_again(0)
            for _ in range(3):
                world.block(27)
            turn()
    for channel in ("book", "ticker"):
        found = [r.event for r in arbiter.ready if r.topic == f"{channel}.{SYMBOLS[0]}."]
        sequences = [event.sequence for event in found if isinstance(event, Book | Ticker)]
        assert sequences[-7:] == [COUNTS - 9, COUNTS - 8, COUNTS - 7, COUNTS - 100, *NEXT]
