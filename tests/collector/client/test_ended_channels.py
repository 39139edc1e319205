"""Channels that a collector does not collect any more, and perhaps again: nothing is lost in silence."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from collector.aggregator.replay_buffer import ReplayBuffer
from collector.archive.recording.cursors import cursor_of, position_of
from collector.client.cells.arbiter import Arbiter
from collector.client.received import ChainReplaced, Joined, Lost, Received
from collector.client.topic_cursor import Position
from collector.client.topic_filter import Wanted
from collector.client.topic_sync import Inbox
from shards.protocol.events import Book, Ticker, Trades
from tests.collector.client.scripted_publisher import (
    CHANNELS,
    Event,
    Script,
    height_of,
    snapshot,
    trades,
)
from tests.collector.client.test_topic_sync import ACTIONS, SYMBOLS, World, act
from tests.searches import examples

ALL = ("book", "trades", "ticker")
CHOICES = (ALL, ("book",), ("trades", "ticker"))
SYMBOL = SYMBOLS[0]


@dataclass
class ChosenScript(Script):
    """An aggregator of some channels only."""

    collected: tuple[str, ...] = ALL

    def __post_init__(self) -> None:
        self.origin = {"channels": ["gap", *self.collected]}

    def keyframe(self, symbol: str, event: Book | Ticker) -> None:
        if CHANNELS[type(event)] in self.collected:
            super().keyframe(symbol, event)


class Mute(ChosenScript):
    """An aggregator that does not answer."""

    def answer(self, request: dict[str, Any]) -> list[bytes]:
        return []


class Choosing(World):
    """A world whose collector is restarted with other channels, now and then."""

    def __init__(self, **options: Any) -> None:
        self.collected: tuple[str, ...] = ALL
        self.backlog_from = 0
        super().__init__(**options)
        self.script = ChosenScript(
            history=self.script.history, head=self.height, sequences=self.script.sequences
        )
        self._declare()

    def choose(self, n: int) -> None:
        """The collector is restarted: its new shards begin after the last block, with whole books."""
        self.collected = CHOICES[n % len(CHOICES)]
        self.backlog_from = len(self.facts)
        self._begin(self.height + 1)
        if n & 4:
            # The reader asks while nothing is published, and nearly nothing known.
            self.turn()
        for symbol in SYMBOLS:
            self.publish(symbol, snapshot(symbol, self.height, self.books[symbol]))
        self.script.head = self.height

    def restart(self, n: int) -> None:
        """Only the aggregator is restarted: its shards send the frames that they have kept again."""
        self.backlog_from = max(self.backlog_from, len(self.facts) - n)
        backlog = self.facts[self.backlog_from :]
        earlier = (height_of(event) for _, event in self.facts[: self.backlog_from])
        self._begin(1 + max(earlier, default=0))
        for symbol, event in backlog:
            self.wire(*self.script.publish(symbol, event))
        self.script.head = self.height

    def _begin(self, from_height: int) -> None:
        self.epochs += 1
        history = ReplayBuffer(self.frames_per_topic)
        # Its ledger is that of its predecessor.
        head = self.script.head
        self.script = ChosenScript(self.epochs, history, head, collected=self.collected)
        self._declare(from_height)

    def _declare(self, from_height: int = 0) -> None:
        """Declare the topics, as an aggregator does once a market is live."""
        for symbol in SYMBOLS:
            for channel in {"gap", *self.collected} - {"ticker"}:
                topic = f"{channel}.{symbol}."
                self.script.history.begin(topic, from_height or self.height + 1)

    def _is_collected(self, event: Event) -> bool:
        return CHANNELS[type(event)] in ("gap", *self.collected)

    def publish(self, symbol: str, event: Event) -> None:
        if self._is_collected(event):
            super().publish(symbol, event)

    def settle(self) -> list[Received]:
        """Let blocks go on: a publisher's first answer may be about the one before it."""
        self.losing = self.losing_replies = self.doubling = False
        for n in (27, 27, 0):
            self.block(n)
            self.turn()
        return super().settle()

    # -- what must be true

    def check(self) -> None:
        out = self.settle()
        joined = out[0].event
        assert isinstance(joined, Joined)
        for symbol in SYMBOLS:
            self.check_book(symbol, [r for r in out if r.topic == f"book.{symbol}."])
            self.check_trades(symbol, joined, [r for r in out if r.topic == f"trades.{symbol}."])
        for position in self.inbox.positions():
            is_collected = position.channel in ("gap", *self.collected)
            assert position.is_ended is not is_collected
            assert position.complete == self.height or position.is_ended

    def check_book(self, symbol: str, out: list[Received]) -> None:
        """Every change once, or named as lost: by its sequence, or by its block."""
        heights = {
            e.sequence: e.height
            for s, e in self.facts
            if s == symbol and isinstance(e, Book) and not e.is_snapshot
        }
        got = [e.sequence for r in out if isinstance(e := r.event, Book) and not e.is_snapshot]
        lost = [r.event for r in out if isinstance(r.event, Lost)]
        first = next(r.event.sequence for r in out if isinstance(r.event, Book))
        assert got == sorted(set(got))
        for sequence, height in heights.items():
            named = [
                one
                for one in lost
                if one.first <= (sequence if one.unit == "sequence" else height) <= one.last
            ]
            assert sequence <= first or named or sequence in got
            assert not (named and sequence in got)


@settings(max_examples=examples(300), deadline=None)
@given(
    actions=st.lists(
        st.tuples(st.sampled_from((*ACTIONS, "choose", "choose")), st.integers(0, 63)), max_size=50
    ),
    frames_per_topic=st.sampled_from([3, 8, 64]),
    markets=st.sampled_from([("*",), SYMBOLS]),
)
def test_every_fact_comes_once_or_is_named_whatever_is_collected(
    actions: list[tuple[str, int]], frames_per_topic: int, markets: tuple[str, ...]
) -> None:
    world = Choosing(frames_per_topic=frames_per_topic, markets=markets, with_tickers=True)
    world.turn()
    for action, n in actions:
        if action == "choose":
            world.choose(n)
        elif action != "resync":
            act(world, action, n)
    world.check()


# -- one behaviour each ------------------------------------------------------------------


def publisher(
    epoch: int, head: int, *collected: str, chain: int = 0, from_height: int = 0
) -> ChosenScript:
    """An aggregator of some channels, whose one market is live."""
    history = ReplayBuffer(64)
    history.chain = chain
    made = ChosenScript(epoch, history, head, collected=collected)
    for channel in ("gap", *collected):
        history.begin(f"{channel}.{SYMBOL}.", from_height or head + 1)
    return made


class Reading:
    """A reader of one cell, or of several, and the clock."""

    def __init__(self, *cells: Script, markets: str = "*") -> None:
        self.inboxes = [Inbox(Wanted([markets], ALL), beginnings=len(cells) > 1) for _ in cells]
        self.cells: list[Script] = list(cells)
        self.arbiter = None
        if len(cells) > 1:
            named = [(str(n), inbox) for n, inbox in enumerate(self.inboxes)]
            self.arbiter = Arbiter(named, ALL)
        self.now = 0.0
        self.turn()

    def turn(self, blocks: int = 0) -> None:
        """Let a second pass; the cells publish trades of some blocks that are the same in all."""
        self.now += 1.0
        for _ in range(blocks):
            height = max(cell.head for cell in self.cells) + 1
            for cell, inbox in zip(self.cells, self.inboxes, strict=True):
                cell.head = height
                if isinstance(cell, ChosenScript) and "trades" in cell.collected:
                    inbox.receive(*cell.publish(SYMBOL, trades(SYMBOL, height)), 7)
        for cell, inbox in zip(self.cells, self.inboxes, strict=True):
            inbox.tick(self.now)
            while inbox.requests:
                inbox.reply(cell.answer(inbox.requests.popleft()), 7)
        if self.arbiter is not None:
            self.arbiter.turn(self.now)

    @property
    def reader(self) -> Inbox | Arbiter:
        return self.arbiter or self.inboxes[0]

    def told(self) -> list[object]:
        """Return the heights that came, and what was told beside them, as far as it is not known."""
        events = [
            r.event for r in self.reader.ready if r.topic.startswith("trades.") or not r.topic
        ]
        self.reader.ready.clear()
        return [
            e.height if isinstance(e, Trades) else (e.first, e.last) if isinstance(e, Lost) else e
            for e in events
            if isinstance(e, Trades | Lost | ChainReplaced)
        ]

    def position(self) -> Position:
        return next(p for p in self.reader.positions() if p.topic == f"trades.{SYMBOL}.")


def test_what_may_have_come_before_the_end_is_named_once_and_so_is_what_lacks_at_the_return() -> (
    None
):
    reading = Reading(publisher(1, 100, "book", "trades"))
    reading.turn(3)
    assert reading.told() == [101, 102, 103]
    reading.cells = [publisher(2, 103, "book")]
    reading.turn()
    assert not reading.position().is_ended, "its head is that of its predecessor"
    for _ in range(3):
        reading.turn(2)
    assert reading.told() == [(104, 105)]
    assert (reading.position().is_ended, reading.position().complete) == (True, 105)
    reading.cells = [publisher(3, 109, "book")]
    reading.turn(1)
    reading.turn(1)
    assert reading.told() == []
    reading.cells = [publisher(4, 111, "book", "trades", from_height=112)]
    for _ in range(3):
        reading.turn(1)
    assert reading.told() == [(106, 111), 112, 113, 114]
    assert (reading.position().is_ended, reading.position().complete) == (False, 114)


def test_a_chain_that_begins_with_other_topics_first_ends_nothing() -> None:
    reading = Reading(publisher(1, 100, "book", "trades"))
    reading.turn(3)
    reading.told()
    begun = publisher(2, 0, "book", chain=9)
    begun.origin = {"channels": ["gap", "book", "trades"]}
    reading.cells = [begun]
    for height in range(1, 5):
        begun.head = height
        reading.turn()
    begun.collected = ("book", "trades")
    begun.history.begin(f"trades.{SYMBOL}.", 1)
    reading.turn(2)
    reading.turn()
    assert reading.told() == [ChainReplaced(103), 5, 6]


def test_a_channel_that_ends_with_its_chain_has_lost_nothing() -> None:
    reading = Reading(publisher(1, 100, "book", "trades"))
    reading.turn(3)
    reading.told()
    reading.cells = [publisher(2, 0, "book", chain=9)]
    for _ in range(3):
        reading.turn(2)
    assert reading.told() == [ChainReplaced(103)]
    assert reading.position().is_ended
    reading.cells = [publisher(3, 6, "book", "trades", chain=9, from_height=8)]
    reading.cells[0].head = 7
    for _ in range(3):
        reading.turn(1)
    assert reading.told() == [(5, 7), 8, 9, 10]


def test_a_channel_that_was_never_collected_is_ended_and_lost_nothing() -> None:
    reading = Reading(publisher(1, 100, "book"), markets=SYMBOL)
    for epoch in (1, 2, 3):
        reading.cells = [publisher(epoch, 100 * epoch, "book")]
        for _ in range(3):
            reading.turn(2)
        assert reading.position().is_ended
    assert reading.told() == []


def test_a_name_that_a_resumed_reader_follows_and_that_is_not_collected_lost_nothing() -> None:
    reading = Reading(publisher(3, 111, "book"))
    reading.inboxes = [Inbox(Wanted([SYMBOL], ALL))]
    reading.inboxes[0].resume([Position(f"book.{SYMBOL}.", 2, 0, 105)], 105)
    for _ in range(3):
        reading.turn(1)
    assert reading.told() == []
    assert (reading.position().is_ended, reading.position().complete) == (True, 113)


def test_what_a_relay_has_kept_of_an_ended_channel_is_read_and_then_it_has_ended() -> None:
    relay = publisher(1, 100, "book", "trades", from_height=99)
    relay.publish(SYMBOL, trades(SYMBOL, 99))
    relay.origin = {"channels": ["gap", "book"]}
    reading = Reading(relay)
    assert reading.told() == []
    reading.inboxes = [Inbox(Wanted(["*"], ALL), history=True)]
    for _ in range(3):
        reading.turn()
    assert reading.told() == [99]
    assert not reading.inboxes[0].awaits_history()
    assert (reading.position().is_ended, reading.position().complete) == (True, 100)


@pytest.mark.parametrize("is_ended", [True, False])
def test_a_journal_keeps_that_a_channel_ended(is_ended: bool) -> None:
    position = Position(f"trades.{SYMBOL}.", 2, 0, 105)
    position.is_ended, position.chain = is_ended, 0
    kept = position_of(cursor_of(position))
    reading = Reading(publisher(3, 111, "book"))
    reading.inboxes = [Inbox(Wanted(["*"], ALL))]
    reading.inboxes[0].resume([kept], 105)
    for _ in range(3):
        reading.turn(1)
    assert reading.told() == ([] if is_ended else [(106, 113)])


def test_of_two_cells_one_ends_a_channel_then_both_then_none() -> None:
    reading = Reading(publisher(1, 100, "book", "trades"), publisher(2, 100, "book", "trades"))
    reading.turn(3)
    reading.cells[0] = publisher(3, 103, "book")
    for _ in range(12):
        reading.turn(1)
    assert reading.told() == [*range(101, 116)]
    assert (reading.position().is_ended, reading.position().complete) == (False, 115)
    reading.cells[1] = publisher(4, 115, "book")
    for _ in range(12):
        reading.turn(1)
    assert reading.told() == [(116, 117)]
    assert (reading.position().is_ended, reading.position().complete) == (True, 117)
    head = reading.cells[0].head
    reading.cells = [publisher(n, head, "book", "trades") for n in (5, 6)]
    for _ in range(12):
        reading.turn(1)
    assert reading.told() == [(118, head), *range(head + 1, head + 13)]
    assert not reading.position().is_ended


def test_a_cell_that_is_silent_may_still_collect_what_another_ended() -> None:
    reading = Reading(publisher(1, 100, "book", "trades"), publisher(2, 100, "book", "trades"))
    reading.turn(3)
    reading.cells[0] = publisher(3, 103, "book")
    answers = reading.cells[1]
    reading.cells[1] = Mute(2, ReplayBuffer(64), collected=("book", "trades"))
    for _ in range(8):
        reading.now += 1.0
        reading.cells[0].head += 1
        reading.turn()
    assert not reading.arbiter.cells[1].answers  # type: ignore[union-attr]
    assert (reading.position().is_ended, reading.position().complete) == (False, 103)
    answers.head = reading.cells[0].head
    for height in range(104, answers.head + 1):
        answers.publish(SYMBOL, trades(SYMBOL, height))
    reading.cells[1] = answers
    for _ in range(12):
        reading.turn(1)
    # A silent cell is not waited for.
    assert reading.told() == [101, 102, 103, (104, 105), *range(106, 124)]
    assert not reading.position().is_ended
