"""The subscriber's state machine against a publisher that loses, repeats and restarts."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings, strategies as st

from collector.aggregator.replay_buffer import ReplayBuffer
from collector.client.received import Joined, Lost, Received, Unanswered
from collector.client.topic_cursor import Position
from collector.client.topic_filter import Wanted
from collector.client.topic_requests import FollowedTopic, KnownPublisher, TopicsReply
from collector.client.topic_sync import Inbox
from collector.client.whole_book import load_or_apply
from shards.protocol.errors import SequenceGap
from shards.protocol.events import Book, Gap, Ticker, Trades
from shards.protocol.frames import decode
from shards.protocol.order_book import OrderBook
from tests.collector.client.scripted_publisher import (
    Event,
    Script,
    delta,
    gap,
    height_of,
    snapshot,
    ticker,
    trades,
)
from tests.searches import examples

SYMBOLS = ("INJ-USDT", "BTC-USDT-PERP")
COUNTS = 10_000
"""Where books count from in tests in which the count restarts."""


class World:
    """A chain, a shard with a backlog, an aggregator, a lossy wire, and one inbox."""

    def __init__(
        self,
        *,
        frames_per_topic: int = 8,
        markets: Iterable[str] = ("*",),
        with_tickers: bool = False,
        by_time: bool = False,
        first_sequence: int = 10,
    ) -> None:
        """``by_time``: changes of books name no heights, as those of an indexer."""
        self.restarts = 0
        self.by_time = by_time
        self.frames_per_topic = frames_per_topic
        self.with_tickers = with_tickers
        self.script = Script(history=ReplayBuffer(frames_per_topic))
        self.inbox = self.new_inbox(markets)
        self.books = {symbol: OrderBook(symbol) for symbol in SYMBOLS}
        self.changed_at = dict.fromkeys(SYMBOLS, 0)
        self.facts: list[tuple[str, Event]] = []
        self.height = 100
        self.gaps = 0
        self.forgotten = 0
        self.epochs = 1
        self.now = 0.0
        self.losing = False
        self.losing_replies = False
        self.doubling = False
        self.sent: list[tuple[bytes, bytes]] = []
        """All that was published; the wire may have lost it."""
        for symbol in SYMBOLS:
            self.books[symbol].load(first_sequence, [], [])
            self.publish(symbol, snapshot(symbol, self.height, self.books[symbol]))
        self.script.head = self.height

    def new_inbox(self, markets: Iterable[str]) -> Inbox:
        channels = ["book", "trades", "ticker", "gap"]
        return Inbox(Wanted(markets, channels), held_frames=6, replays=2)

    # -- what happens

    def block(self, n: int) -> None:
        """One block: a gap's announcement, a book change and trades, as n's bits say."""
        self.height += 1
        for i, symbol in enumerate(SYMBOLS):
            bits = n >> (3 * i)
            if bits & 4:
                self.gaps += 1
                self.publish(symbol, gap(symbol, self.gaps, self.height))
            if bits & 1:
                change = delta(symbol, self.height, self.books[symbol].sequence + 1)
                load_or_apply(self.books[symbol], change)
                self.changed_at[symbol] = change.ts_event
                self.publish(symbol, change)
                if self.with_tickers:
                    self.publish(symbol, ticker(symbol, self.height, change.sequence))
            if bits & 2:
                self.publish(symbol, trades(symbol, self.height))
            if n % 5 == 0:
                self.script.keyframe(symbol, self.keyframe(symbol))
        self.script.head = self.height

    def resync(self, n: int) -> None:
        """The shard itself missed a few book changes; it announces that and goes on."""
        symbol, book = SYMBOLS[n % 2], self.books[SYMBOLS[n % 2]]
        self.height += 1
        self.gaps += 1
        self.publish(symbol, gap(symbol, self.gaps, self.height, self.height))
        book.load(book.sequence + n % 4, *book.levels())
        self.publish(symbol, self.keyframe(symbol))
        if self.with_tickers and n % 4:
            self.publish(symbol, ticker(symbol, self.height, book.sequence))
        self.script.head = self.height

    def begin_again(self, n: int) -> None:
        """
        A book's sequence begins again, low; the shard announces that and goes on.

        No count reaches a sequence of an earlier one: who missed all in between could not tell a
        book of the new count from the old one, which has the same number.
        """
        symbol, book = SYMBOLS[n % 2], self.books[SYMBOLS[n % 2]]
        self.restarts += 1
        sequence = COUNTS - 100 * self.restarts + n % 3
        if book.sequence <= sequence:
            return
        self.height += 1
        self.gaps += 1
        self.publish(symbol, gap(symbol, self.gaps, self.height, self.height))
        book.load(sequence, *book.levels())
        whole = snapshot(symbol, self.height, book)
        if self.by_time:
            self.changed_at[symbol] = self.height * 10**9
            whole = self.keyframe(symbol)
        self.publish(symbol, whole)
        if self.with_tickers:
            self.publish(symbol, ticker(symbol, self.height, book.sequence))
        self.script.head = self.height

    def restart(self, n: int) -> None:
        """A new aggregator gets the last n frames again, in order, then keyframes."""
        # By a clock that may have been set back meanwhile: another epoch, not always a greater one.
        self.epochs += 1
        epoch = self.epochs if self.epochs == 2 or n % 3 else 1_000_000 - self.epochs
        script = Script(epoch, ReplayBuffer(self.frames_per_topic))
        # A backlog only ever forgets its oldest.
        self.forgotten = max(self.forgotten, len(self.facts) - n)
        forgotten, backlog = self.facts[: self.forgotten], self.facts[self.forgotten :]
        from_height = 1 + max((height_of(event) for _, event in forgotten), default=0)
        self.script = script
        for symbol in SYMBOLS:
            for channel in ("book", "trades", "ticker", "gap"):
                script.history.begin(f"{channel}.{symbol}.", from_height)
        for symbol, event in backlog:
            self.wire(*script.publish(symbol, event))
        # Fresh keyframes follow, sooner or later: n decides whether a poll comes before them.
        for symbol in self.books if n % 2 else ():
            script.keyframe(symbol, self.keyframe(symbol))
        script.head = self.height

    def keyframe(self, symbol: str) -> Book:
        """Return the whole book; where changes name no heights, with the time of the newest one."""
        whole = snapshot(symbol, self.height, self.books[symbol])
        ts = self.changed_at[symbol] if self.by_time else 0
        return msgspec.structs.replace(whole, ts_event=ts)

    def publish(self, symbol: str, event: Event) -> None:
        is_change = isinstance(event, Ticker) or (isinstance(event, Book) and not event.is_snapshot)
        if self.by_time and is_change:
            event = msgspec.structs.replace(event, height=0)
        self.facts.append((symbol, event))
        self.wire(*self.script.publish(symbol, event))

    def wire(self, topic: bytes, body: bytes) -> None:
        self.sent.append((topic, body))
        for _ in range(0 if self.losing else 1 + self.doubling):
            self.inbox.receive(topic, body, 7)

    def turn(self, seconds: float = 1.0) -> None:
        """Let time pass, and the requests be answered."""
        self.now += seconds
        self.inbox.tick(self.now)
        while self.inbox.requests:
            reply = self.script.answer(self.inbox.requests.popleft())
            if not self.losing_replies:
                self.inbox.reply(reply, 7)

    def settle(self) -> list[Received]:
        """End all faults, let everything be healed, and return all that was handed out."""
        self.losing = self.losing_replies = self.doubling = False
        for symbol in self.books:
            self.script.keyframe(symbol, self.keyframe(symbol))
        for _ in range(12):
            self.turn()
        return list(self.inbox.ready)

    # -- what must be true

    def check(self) -> None:
        out = self.settle()
        assert isinstance(out[0].event, Joined)
        for symbol in SYMBOLS:
            self.check_book(symbol, [r for r in out if r.topic == f"book.{symbol}."])
            self.check_trades(
                symbol, out[0].event, [r for r in out if r.topic == f"trades.{symbol}."]
            )
            self.check_tickers(symbol, [r for r in out if r.topic == f"ticker.{symbol}."])
            self.check_gaps(symbol, [r for r in out if r.topic == f"gap.{symbol}."])

    def check_book(self, symbol: str, out: list[Received]) -> None:
        """Every change once, in order, or named as lost; and the book at the end is the book."""
        book, in_sync = OrderBook(symbol), False
        got: list[int] = []
        lost: set[int] = set()
        for received in out:
            event = received.event
            if isinstance(event, Lost):
                assert event.unit == "sequence"
                lost.update(range(event.first, event.last + 1))
                in_sync = False
            elif isinstance(event, Book):
                got += [] if event.is_snapshot else [event.sequence]
                in_sync = in_sync or event.is_snapshot
                if in_sync:
                    load_or_apply(book, event)
        first = next(r.event.sequence for r in out if isinstance(r.event, Book))
        true = [
            e.sequence
            for s, e in self.facts
            if s == symbol and isinstance(e, Book) and not e.is_snapshot
        ]
        assert all(decode(r.body)[1] == r.event for r in out if r.body)
        assert got == sorted(set(got))
        assert not lost & set(got)
        assert [s for s in true if s > first] == sorted((lost & set(true)) | set(got))
        assert in_sync
        assert (book.sequence, book.levels()) == (
            self.books[symbol].sequence,
            self.books[symbol].levels(),
        )

    def check_trades(self, symbol: str, joined: Joined, out: list[Received]) -> None:
        got, lost = heights_of(out)
        true = [e.height for s, e in self.facts if s == symbol and isinstance(e, Trades)]
        assert got == sorted(set(got))
        assert not lost & set(got)
        assert set(got) <= set(true)
        assert {h for h in true if h > joined.head} <= set(got) | lost

    def check_tickers(self, symbol: str, out: list[Received]) -> None:
        """Each once, in order, up to the newest; only what is named as lost may be missing."""
        events = [r.event for r in out]
        got = [event.sequence for event in events if isinstance(event, Ticker)]
        lost = [event for event in events if isinstance(event, Lost)]
        true = [e.sequence for s, e in self.facts if s == symbol and isinstance(e, Ticker)]
        assert got == sorted(set(got))
        assert set(got) <= set(true)
        if got and not lost:
            assert got == true[true.index(got[0]) :]

    def check_gaps(self, symbol: str, out: list[Received]) -> None:
        got = [r.event.gap_id for r in out if isinstance(r.event, Gap)]
        lost = heights_of(out)[1]
        true = {e.gap_id: e.first for s, e in self.facts if s == symbol and isinstance(e, Gap)}
        assert got == sorted(set(got))
        first = min(got, default=0)
        assert all(i in got or h in lost for i, h in true.items() if i > first > 0)


def heights_of(out: list[Received]) -> tuple[list[int], set[int]]:
    got = [r.event.height for r in out if isinstance(r.event, Trades)]
    lost = {
        h for r in out if isinstance(r.event, Lost) for h in range(r.event.first, r.event.last + 1)
    }
    return got, lost


def moment_of(event: Book) -> int:
    """Return the height of a change, also if it names only a time."""
    return event.height or event.ts_event // 10**9


ACTIONS = (
    "block",
    "block",
    "block",
    "block",
    "turn",
    "lose",
    "keep",
    "double",
    "mute",
    "resync",
    "restart",
)


def act(world: World, action: str, n: int) -> None:
    match action:
        case "block":
            world.block(n)
        case "turn":
            world.turn(0.4 + n % 3)
        case "lose":
            world.losing = True
        case "keep":
            world.losing = world.doubling = world.losing_replies = False
        case "double":
            world.doubling = True
        case "mute":
            world.losing_replies = True
        case "resync":
            world.resync(n)
        case "begin again":
            world.begin_again(n)
        case "restart":
            world.restart(n % 40)


@settings(max_examples=examples(400), deadline=None)
# A publisher ends before it was asked; what it published is held, and must not keep the book away.
@example(
    actions=[("restart", 0), ("block", 1), ("restart", 0), ("turn", 0)],
    late=0,
    frames_per_topic=3,
    markets=("*",),
)
@given(
    actions=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 63)), max_size=60),
    late=st.integers(0, 8),
    frames_per_topic=st.sampled_from([3, 8, 64]),
    markets=st.sampled_from([("*",), SYMBOLS, ("*-USDT*",)]),
)
def test_every_fact_comes_once_in_order_or_is_named_as_lost(
    actions: list[tuple[str, int]], late: int, frames_per_topic: int, markets: tuple[str, ...]
) -> None:
    world = World(frames_per_topic=frames_per_topic, markets=markets, with_tickers=True)
    world.losing = True
    for _ in range(late):
        world.block(27)
    world.losing = False
    world.turn()
    for action, n in actions:
        act(world, action, n)
    world.check()


@settings(max_examples=examples(200), deadline=None)
@given(
    actions=st.lists(
        st.tuples(st.sampled_from((*ACTIONS, "begin again")), st.integers(0, 63)), max_size=60
    ),
    frames_per_topic=st.sampled_from([3, 8, 64]),
    by_time=st.booleans(),
)
def test_a_book_whose_sequence_begins_again_ends_as_it_is(
    actions: list[tuple[str, int]], frames_per_topic: int, by_time: bool
) -> None:
    world = World(
        frames_per_topic=frames_per_topic,
        with_tickers=True,
        by_time=by_time,
        first_sequence=COUNTS,
    )
    world.turn()
    for action, n in actions:
        act(world, action, n)
    out = world.settle()
    for symbol in SYMBOLS:
        book, in_sync, heights = OrderBook(symbol), False, []
        for event in [r.event for r in out if r.topic == f"book.{symbol}."]:
            if isinstance(event, Lost):
                in_sync = False
            elif isinstance(event, Book):
                heights += [] if event.is_snapshot else [moment_of(event)]
                in_sync = in_sync or event.is_snapshot
                if in_sync:
                    load_or_apply(book, event)
        assert heights == sorted(set(heights))
        assert in_sync
        assert (book.sequence, book.levels()) == (
            world.books[symbol].sequence,
            world.books[symbol].levels(),
        )
        tickers = [r.event for r in out if r.topic == f"ticker.{symbol}."]
        told = [event for event in tickers if isinstance(event, Ticker)]
        true = [e for s, e in world.facts if s == symbol and isinstance(e, Ticker)]
        assert [e.ts_event for e in told] == sorted({e.ts_event for e in told})
        lost = [r for r in out if r.topic == f"ticker.{symbol}." and isinstance(r.event, Lost)]
        # What only an aggregator that died had heard is not known to anyone, not even by name.
        assert not told or lost or told[-1] == true[-1]


@given(blocks=st.lists(st.integers(0, 63), max_size=40))
def test_without_loss_the_order_across_topics_is_the_publishers(blocks: list[int]) -> None:
    world = World(frames_per_topic=64)
    world.turn()
    world.inbox.ready.clear()
    world.facts.clear()
    before = world.inbox.duplicates
    for n in blocks:
        world.block(n)
        world.turn(0.3)
    assert [r.event for r in world.inbox.ready] == [event for _, event in world.facts]
    assert world.inbox.duplicates == before


# -- one behaviour each ------------------------------------------------------------------


def events(world: World) -> list[Any]:
    out = [received.event for received in world.inbox.ready]
    world.inbox.ready.clear()
    return out


def joined_world(**options: Any) -> World:
    world = World(**options)
    world.turn()
    events(world)
    return world


def test_a_late_joiner_gets_the_book_as_it_stands_and_trades_from_now_on() -> None:
    world = World(frames_per_topic=64)
    world.losing = True
    for _ in range(3):
        world.block(0b011)
    world.losing = False
    world.turn()
    joined, *rest = world.inbox.ready
    assert joined.event == Joined(1, 103, 3)
    books = [r.event for r in rest if r.topic == "book.INJ-USDT."]
    assert [(b.sequence, b.is_snapshot) for b in books if isinstance(b, Book)] == [
        *[(10, True), (11, False), (12, False), (13, False)]
    ]
    assert not [r for r in rest if r.channel == "trades"]
    world.block(0b011)
    assert [type(e) for e in events(world)][-2:] == [Book, Trades]


def test_a_hole_holds_its_own_topic_only() -> None:
    world = joined_world()
    world.losing = True
    world.publish("INJ-USDT", delta("INJ-USDT", 101, 11))
    world.losing = False
    world.publish("INJ-USDT", delta("INJ-USDT", 102, 12))
    world.publish("INJ-USDT", trades("INJ-USDT", 102))
    assert [type(e) for e in events(world)] == [Trades]
    world.turn(0.1)
    healed = list(world.inbox.ready)
    assert [r.symbol for r in healed] == ["INJ-USDT"] * 2
    assert [(r.event.sequence, r.healed) for r in healed if isinstance(r.event, Book)] == [
        *[(11, True), (12, True)]
    ]


def test_a_loss_at_the_tail_is_found_by_the_second_poll() -> None:
    world = joined_world()
    world.block(0b010)
    world.turn()
    assert [type(e) for e in events(world)] == [Trades]
    world.losing = True
    world.block(0b010)
    world.turn()
    assert events(world) == []
    world.turn()
    assert [type(e) for e in events(world)] == [Trades]


def test_what_the_history_forgot_is_lost_by_name_and_the_book_comes_back() -> None:
    world = joined_world(frames_per_topic=3)
    world.losing = True
    for _ in range(6):
        world.block(0b011)
    world.script.keyframe("INJ-USDT", snapshot("INJ-USDT", 106, world.books["INJ-USDT"]))
    world.losing = False
    world.block(0b011)
    world.turn()
    out = events(world)
    losses = [e for e in out if isinstance(e, Lost)]
    spans = {(e.unit, e.first, e.last) for e in losses}
    assert spans == {("sequence", 11, 15), ("height", 101, 104)}
    books = [(e.sequence, e.is_snapshot) for e in out if isinstance(e, Book)]
    assert books == [(16, False), (16, True), (17, False)]


def test_a_restart_with_a_full_backlog_loses_and_repeats_nothing() -> None:
    world = joined_world(frames_per_topic=64)
    world.block(0b111_111)
    before = events(world)
    assert len(before) == 6
    world.restart(len(world.facts))
    world.block(0b111_111)
    world.turn()
    out = events(world)
    assert [type(e) for e in out].count(Joined) == 1
    assert not [e for e in out if isinstance(e, Lost)]
    assert len(out) == 7


def test_a_whole_book_published_again_after_a_restart_is_not_repeated() -> None:
    world = joined_world(frames_per_topic=64)
    world.resync(0)
    assert [type(e) for e in events(world)] == [Gap, Book]
    world.restart(len(world.facts))
    world.turn()
    assert [type(e) for e in events(world)] == [Joined]


def test_a_restart_that_has_nothing_yet_is_followed_from_its_first_frame() -> None:
    world = joined_world(frames_per_topic=64)
    for _ in range(3):
        world.block(0b011)
    events(world)
    world.restart(0)
    world.turn()
    assert {type(e) for e in events(world)} <= {Joined, Lost}
    world.block(0b011)
    assert [type(e) for e in events(world)] == [Book, Trades]


def test_a_restart_without_keyframes_restores_the_book_when_one_comes() -> None:
    world = joined_world(frames_per_topic=64)
    world.losing = True
    for _ in range(4):
        world.block(0b001)
    world.losing = False
    world.restart(2)
    world.turn()
    out = [r.event for r in world.inbox.ready if r.topic == "book.INJ-USDT."]
    assert [type(e) for e in out] == [Lost, Book, Book]
    events(world)
    world.block(0b001)
    world.script.keyframe("INJ-USDT", snapshot("INJ-USDT", 105, world.books["INJ-USDT"]))
    world.block(0b001)
    world.turn()
    world.turn()
    books = [(e.sequence, e.is_snapshot) for e in events(world) if isinstance(e, Book)]
    assert books == [(15, False), (16, False), (16, True)]


def test_a_quiet_markets_book_is_had_although_the_aggregator_has_published_nothing_yet() -> None:
    world = World()
    world.restart(0)
    world.script.keyframe("INJ-USDT", snapshot("INJ-USDT", 100, world.books["INJ-USDT"]))
    world.turn()
    assert [(e.sequence, e.is_snapshot) for e in events(world) if isinstance(e, Book)] == [
        *[(10, True)]
    ]


def test_a_quiet_book_that_changed_unseen_before_a_restart_is_found_out_without_a_delta() -> None:
    world = joined_world()
    world.losing = True
    world.block(0b001)
    world.losing = False
    world.restart(0)
    world.turn()
    assert [e for e in events(world) if isinstance(e, Book)] == []
    world.script.keyframe("INJ-USDT", snapshot("INJ-USDT", 101, world.books["INJ-USDT"]))
    world.turn()
    out = [e for e in events(world) if isinstance(e, Book | Lost)]
    assert [(type(e), e.is_snapshot if isinstance(e, Book) else e.last) for e in out] == [
        *[(Lost, 11), (Book, True)]
    ]


def test_trades_of_a_height_that_is_only_partly_remembered_are_not_called_lost() -> None:
    world = joined_world(frames_per_topic=64)
    world.block(0)
    world.losing = True
    world.block(0b011)
    world.restart(1)
    world.losing = False
    world.turn()
    trades_out = [r for r in world.inbox.ready if r.topic == "trades.INJ-USDT."]
    heights = [e.height for r in trades_out if isinstance(e := r.event, Trades)]
    lost = [(e.first, e.last) for r in trades_out if isinstance(e := r.event, Lost)]
    assert (heights, lost) == ([102], [(101, 101)])


def test_an_older_aggregators_answer_is_ignored() -> None:
    world = joined_world()
    old = world.script
    world.restart(5)
    world.turn()
    events(world)
    world.script = old
    world.turn()
    assert events(world) == []
    assert world.inbox.publisher.epoch == 2


def test_a_restart_that_forgot_quiet_blocks_says_which_heights_are_uncertain() -> None:
    world = joined_world()
    world.block(0)
    world.losing = True
    for _ in range(4):
        world.block(0b010)
    world.restart(2)
    world.losing = False
    world.turn()
    lost = [r for r in world.inbox.ready if isinstance(r.event, Lost) and r.channel == "trades"]
    assert [(r.symbol, r.event.first, r.event.last) for r in lost if isinstance(r.event, Lost)] == [
        *[("INJ-USDT", 101, 103), ("BTC-USDT-PERP", 101, 103)]
    ]


def test_heights_that_the_last_answer_covered_are_not_uncertain_after_a_restart() -> None:
    world = joined_world()
    world.block(0b010010)
    world.turn()
    for _ in range(4):
        world.block(0b010)
    world.turn()
    world.restart(0)
    world.turn()
    assert not [event for event in events(world) if isinstance(event, Lost)]


def test_a_new_publishers_first_answer_proves_no_heights() -> None:
    """Its head is that of the ledger: shards may still send it frames below."""
    publisher = KnownPublisher()
    publisher.remember(TopicsReply(1, 100, {}))
    followed = FollowedTopic(Position("trades.INJ-USDT.", 2, 0, 100))
    answer = TopicsReply(2, 104, {}, {"INJ-USDT": 105})
    assert not followed.is_behind(0, answer, publisher)
    assert followed.position.complete == 100
    publisher.remember(answer)
    assert not followed.is_behind(0, answer, publisher)
    assert followed.position.complete == 105


def test_a_silent_aggregator_is_reported_once_and_its_return_too() -> None:
    world = joined_world()
    world.losing_replies = True
    for _ in range(6):
        world.turn()
    assert [type(e) for e in events(world)] == [Unanswered]
    world.losing_replies = False
    world.turn()
    assert [type(e) for e in events(world)] == [Joined]


def test_frames_held_are_bounded_and_the_dropped_ones_are_asked_for() -> None:
    world = World(frames_per_topic=64)
    world.turn()
    world.losing = world.losing_replies = True
    world.block(0b010)
    world.losing = False
    for _ in range(20):
        world.block(0b010)
    assert not [r for r in world.inbox.ready if r.channel == "trades"]
    followed = world.inbox._topics[b"trades.INJ-USDT."]
    assert followed is not None
    assert len(followed.held) == 6
    world.check()


def test_a_topic_that_appears_later_is_followed_from_its_first_frame() -> None:
    world = World(markets=("NEW*",))
    world.turn()
    assert [type(e) for e in events(world)] == [Joined]
    world.script.publish("NEW-USDT", trades("NEW-USDT", 101))
    assert not world.inbox.subscriptions
    world.turn()
    assert list(world.inbox.subscriptions) == ["trades.NEW-USDT."]
    assert [e.height for e in events(world) if isinstance(e, Trades)] == [101]


def test_garbage_is_counted_and_another_version_refused() -> None:
    world = joined_world()
    for body in (b"", b"\x9a", b"\x9a\x01\x01", bytes(80), b"\x9a\x01\x01" + bytes(80)):
        world.inbox.receive(b"book.INJ-USDT.", body, 7)
    assert world.inbox.refused == 4
    world.inbox.reply([b"\xc1"], 7)
    world.inbox.reply([], 7)
    world.inbox.reply([msgspec.msgpack.encode({"id": 99_999})], 7)
    assert world.inbox.refused == 6
    with pytest.raises(ValueError, match="version 2"):
        world.inbox.receive(b"book.INJ-USDT.", b"\x9a\x02" + bytes(80), 7)
    world.block(0b011)
    assert len(events(world)) == 2


def test_a_book_without_any_keyframe_begins_once_there_is_one() -> None:
    world = World(frames_per_topic=2)
    world.losing = True
    for _ in range(6):
        world.block(0b001)
    world.losing = False
    world.turn()
    assert [e for e in events(world) if isinstance(e, Book) and e.sequence > 10] == []
    world.block(0b001)
    world.script.keyframe("INJ-USDT", snapshot("INJ-USDT", 107, world.books["INJ-USDT"]))
    world.block(0b001)
    world.turn()
    world.turn()
    books = [(e.sequence, e.is_snapshot) for e in events(world) if isinstance(e, Book)]
    assert books == [(17, True), (18, False)]


def test_the_world_can_fail() -> None:
    """The book check itself notices a delta that does not follow."""
    book = OrderBook("x")
    with pytest.raises(SequenceGap):
        load_or_apply(book, delta("INJ-USDT", 1, 5))


def test_a_late_joiner_is_given_the_newest_of_a_state_and_nothing_older() -> None:
    world = World()
    for sequence in (11, 12, 13):
        world.script.publish(SYMBOLS[0], ticker(SYMBOLS[0], 100 + sequence, sequence))
    late = Inbox(Wanted(("*",), ["ticker"]))
    world.inbox = late
    world.turn()
    assert [r.event.sequence for r in late.ready if isinstance(r.event, Ticker)] == [13]
    world.wire(*world.script.publish(SYMBOLS[0], ticker(SYMBOLS[0], 120, 14)))
    assert isinstance(late.ready[-1].event, Ticker)
    assert late.ready[-1].event.sequence == 14


def test_the_state_of_a_quiet_topic_outlives_a_restart_for_late_joiners() -> None:
    world = World()
    told = ticker(SYMBOLS[0], 100, 11)
    world.script = Script(publisher_epoch=2, history=ReplayBuffer())
    world.script.keyframe(SYMBOLS[0], told)
    world.inbox = Inbox(Wanted(("*",), ["ticker"]))
    world.turn()
    assert [r.event for r in world.inbox.ready if isinstance(r.event, Ticker)] == [told]
