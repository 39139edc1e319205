"""Positions know the chain that their facts are of: nothing of another one is joined to them."""

import pytest

from collector.aggregator.replay_buffer import ReplayBuffer
from collector.archive.recording.cursors import cursor_of, position_of
from collector.client.cells.arbiter import Arbiter
from collector.client.received import ChainReplaced, Lost
from collector.client.topic_filter import Wanted
from collector.client.topic_sync import Inbox
from shards.protocol.events import Book, Trades
from shards.protocol.order_book import OrderBook
from tests.collector.client.scripted_publisher import Script, delta, snapshot, trades

SYMBOL = "INJ-USDT"
CHANNELS = ["book", "trades"]
_REPLACED_AT = 77


def inbox() -> Inbox:
    return Inbox(Wanted(("*",), CHANNELS))


def script(epoch: int, chain: int) -> Script:
    history = ReplayBuffer(64)
    history.chain = chain
    return Script(epoch, history)


def publish(publisher: Script, listener: Inbox | None, first: int, sequence: int) -> None:
    """Publish a whole book, then three blocks with a change and trades each."""
    book = OrderBook(SYMBOL)
    book.load(sequence, [], [])
    made: list[Book | Trades] = [snapshot(SYMBOL, first, book)]
    for n in range(1, 4):
        made += [delta(SYMBOL, first + n, sequence + n), trades(SYMBOL, first + n)]
    for event in made:
        topic, body = publisher.publish(SYMBOL, event)
        if listener is not None:
            listener.receive(topic, body, 7)
    publisher.head = first + 3


def turn(listener: Inbox, publisher: Script, now: float) -> None:
    listener.tick(now)
    while listener.requests:
        listener.reply(publisher.answer(listener.requests.popleft()), 7)


def resumed_at(
    chain: int, *, stored: bool, merged: bool = False, sequence: int = 0
) -> list[object]:
    """
    Hear a chain, stop, and go on where another publisher has this chain; return its events.

    Args:
        merged: Whether to hear it as one of several cells.
        sequence: The book's, where it goes on.

    """
    old, first = script(1, 0), inbox()
    reader = Arbiter([("cell", first)], CHANNELS) if merged else first
    turn(first, old, 0.0)
    publish(old, first, 100, 40)
    turn(first, old, 1.0)
    if isinstance(reader, Arbiter):
        reader.turn(1.0)
    positions = list(reader.positions())
    if stored:
        positions = [position_of(cursor_of(position)) for position in positions]
    again, new = inbox(), script(2, chain)
    reader = Arbiter([("cell", again)], CHANNELS) if merged else again
    reader.resume(positions, first.publisher.head)
    if sequence:
        publish(new, None, 104, sequence)
    else:
        publish(new, None, 3 if chain else 103, 5 if chain else 43)
    for now in range(4):
        turn(again, new, float(now))
        if isinstance(reader, Arbiter):
            reader.turn(float(now))
    return [received.event for received in reader.ready]


@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "from a journal"])
def test_a_resume_after_the_chain_was_replaced_joins_nothing_of_the_old_one(stored: bool) -> None:
    events = resumed_at(_REPLACED_AT, stored=stored)
    assert [event for event in events if isinstance(event, ChainReplaced)] == [ChainReplaced(103)]
    books = [event for event in events if isinstance(event, Book)]
    assert books[0].is_snapshot
    assert (books[-1].height, books[-1].sequence) == (6, 8)
    assert [event.height for event in events if isinstance(event, Trades)] == [4, 5, 6]
    assert not [event for event in events if isinstance(event, Lost)]


@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "from a journal"])
def test_a_resume_on_the_same_chain_goes_on(stored: bool) -> None:
    events = resumed_at(0, stored=stored)
    assert not [event for event in events if isinstance(event, ChainReplaced)]
    assert [event.height for event in events if isinstance(event, Trades)] == [104, 105, 106]


@pytest.mark.parametrize("merged", [False, True], ids=["one", "one of several cells"])
@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "from a journal"])
def test_a_resume_sees_that_the_sequence_of_a_book_began_again(stored: bool, merged: bool) -> None:
    events = resumed_at(0, stored=stored, merged=merged, sequence=5)
    books = [event for event in events if isinstance(event, Book)]
    assert [(book.is_snapshot, book.sequence) for book in books] == [
        (True, 5),
        *((False, sequence) for sequence in (6, 7, 8)),
    ]


def quiet(symbol: str, epoch: int, chain: int, head: int, chain_id: str = "") -> Script:
    """A publisher with one topic, on which nothing came yet."""
    publisher = script(epoch, chain)
    publisher.history.begin(f"trades.{symbol}.", head - 3)
    publisher.head = head
    publisher.origin = {"chain_id": chain_id}
    return publisher


def test_positions_are_not_of_a_cell_that_is_refused() -> None:
    cells = [inbox(), inbox()]
    reader = Arbiter([("ours", cells[0]), ("other", cells[1])], CHANNELS)
    ours, other = quiet(SYMBOL, 1, 0, 1_000, "one"), quiet("TEST-USDT", 2, 0, 50, "another")
    for now, head in enumerate((1_000, 1_010)):
        ours.head = head
        for cell, publisher in zip(cells, (ours, other), strict=True):
            turn(cell, publisher, float(now))
        reader.turn(float(now))
    assert reader.cells[1].refused
    found = [(position.topic, position.complete) for position in reader.positions()]
    assert found == [(f"trades.{SYMBOL}.", 1_010)]


def test_positions_are_not_of_a_cell_that_is_still_on_the_former_chain() -> None:
    cells = [inbox(), inbox()]
    reader = Arbiter([("quick", cells[0]), ("slow", cells[1])], CHANNELS)
    slow = quiet(SYMBOL, 2, 0, 1_000)
    for now, quick in enumerate((quiet(SYMBOL, 1, 0, 1_000), *[quiet(SYMBOL, 3, 77, 9)] * 2)):
        for cell, publisher in zip(cells, (quick, slow), strict=True):
            turn(cell, publisher, float(now))
        reader.turn(float(now))
    assert reader.cells[1].is_behind
    assert [position.complete for position in reader.positions()] == [9]


@pytest.mark.parametrize("chain", [0, 77], ids=["another chain", "the former chain"])
def test_what_our_cells_lost_is_named_although_another_chain_is_further(chain: int) -> None:
    cells = [inbox(), inbox()]
    reader = Arbiter([("ours", cells[0]), ("other", cells[1])], CHANNELS)
    other = quiet(SYMBOL, 2, 0, 5_000, "" if chain else "another")
    again = quiet(SYMBOL, 4, chain, 1_030, "one")
    again.publish(SYMBOL, trades(SYMBOL, 1_030))
    before = [quiet(SYMBOL, 1, 0, 1_000, "one"), quiet(SYMBOL, 3, chain, 1_000, "one")]
    for now, ours in enumerate([*before, *[again] * 3]):
        for cell, publisher in zip(cells, (ours, other), strict=True):
            turn(cell, publisher, float(now))
        reader.turn(float(now))
    assert not reader.cells[1].answers
    joined = 996 if chain else 1_000
    events = [r.event for r in reader.ready if r.topic == f"trades.{SYMBOL}."]
    assert [(e.first, e.last) for e in events if isinstance(e, Lost)] == [(joined + 1, 1_026)]
    assert [e.height for e in events if isinstance(e, Trades)] == [1_030]
