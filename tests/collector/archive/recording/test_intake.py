"""What a recorder takes: the short way of a steady book ends in the same journal as the long one."""

from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st
from msgspec import structs

from collector.archive.journal.segment_file import Chunk
from collector.archive.recording.cursors import cursor_of
from collector.archive.recording.intake import Intake
from collector.client.received import Lost, Received
from collector.client.topic_cursor import Position
from shards.protocol.events import Block, Book, Gap, Trade, Trades
from shards.protocol.frames import KIND_BOOK, encode, prefix

SYMBOLS = ("A", "B")


def trade(trade_id: str) -> Trade:
    one = "1.000000000000000000"
    return Trade(trade_id, "buy", one, one, one, "Market", "0x0", "0x0", "inj1")


class _Never(set[str]):
    """No topic is ever steady."""

    def add(self, _: str) -> None:
        pass


def _received(channel: str, symbol: str, event: Any, number: int) -> Received:
    header = (7, number, number, number, 1)
    received = Received(f"{channel}.{symbol}.", channel, symbol, event, *header)
    if not isinstance(event, Book) or event.is_snapshot or number % 7 == 0:
        return received
    # Changes mostly come with their frames.
    body = prefix(KIND_BOOK, *header, 1, number) + encode(event)
    return structs.replace(received, body=body)


def _event(kind: str, symbol: str, height: int, number: int) -> Received:
    source = "replay" if kind == "replayed" else "chain-ws"
    what = (f"0x{symbol}", height, number, height, height, source)
    match kind:
        case "change" | "whole" | "replayed":
            return _received("book", symbol, Book(*what, kind == "whole", [], []), number)
        case "trades":
            event: Any = Trades(f"0x{symbol}", height, height, height, "chain-ws", [])
            return _received("trades", symbol, event, number)
        case "lost":
            return _received("book", symbol, Lost("sequence", number, number, "cut"), number)
        case _:
            cause: Any = kind
            last = 0 if kind == "removed" else height
            gap = Gap(f"0x{symbol}", number, "open", cause, height, last, height, "")
            return _received("gap", symbol, gap, number)


def _journal(intake: Intake, steps: list[tuple[str, str, int]], start: int) -> list[Chunk | None]:
    found = []
    for number, (kind, symbol, height) in enumerate(steps, 1):
        if number == start:
            intake.start([Position("book.A.", 7, 0, 0)], intake.head)
        intake.take(_event(kind, symbol, height, number))
        if number % 5 == 0:
            found.append(intake.take_chunk())
    return [*found, intake.take_chunk()]


_KINDS = (
    "change",
    "change",
    "change",
    "change",
    "whole",
    "trades",
    "lost",
    "removed",
    "stream",
    "replayed",
)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(_KINDS), st.sampled_from(SYMBOLS), st.integers(0, 12)),
        max_size=40,
    ),
    st.integers(1, 8),
)
@example([("replayed", "A", 1), ("change", "A", 2)], 1)
def test_the_short_way_of_a_change_has_the_journal_of_the_long_way(
    steps: list[tuple[str, str, int]], start: int
) -> None:
    short, long = Intake(5), Intake(5)
    long._steady = _Never()
    assert _journal(short, steps, start) == _journal(long, steps, start)
    assert (short.head, short.facts, short.channels) == (long.head, long.facts, long.channels)
    assert short._heights == long._heights
    assert short._removed == long._removed


def test_most_changes_go_the_short_way() -> None:
    intake = Intake(5)
    _journal(intake, [("change", "A", height) for height in range(1, 9)], 3)
    assert intake._steady == {"book.A."}


def test_a_removed_market_is_not_waited_for_until_it_comes_back() -> None:
    intake = Intake(5)
    _journal(intake, [("change", "A", height) for height in range(1, 5)], 3)
    intake.take(_event("removed", "A", 4, 5))
    assert intake._removed == {"A"}
    assert intake.ledger.due("A", 1, 9) == [(3, 3)]
    intake.take(_event("change", "A", 7, 6))
    assert intake._removed == set()
    assert intake.ledger.missing("A", 1, 9) == [(4, 6)]
    closed = Gap("0xA", 5, "closed", "removed", 4, 6, 6, "")
    intake.take(_received("gap", "A", closed, 7))
    assert intake.ledger.missing("A", 1, 9) == []


def test_lost_blocks_of_a_market_that_was_listed_later_are_its_own() -> None:
    intake = Intake(5)
    _journal(intake, [("change", "A", height) for height in range(1, 5)], 3)
    intake.take(_event("trades", "B", 5, 6))
    intake.take(_received("trades", "B", Lost("height", 6, 7, "cut"), 7))
    assert intake.ledger.lacking(6) == {"0xB": "B"}
    block = Block(6, 6, [("0xB", trade("6_0")), ("0xC", trade("6_1"))], [])
    intake.fetched(6, block, 1)
    chunk = intake.take_chunk()
    assert chunk is not None
    assert [entry.topic for entry in chunk.entries if not entry.publisher_epoch] == ["trades.B."]


def test_fetched_blocks_are_recorded_in_channels_that_had_no_event_yet() -> None:
    before = Intake(5)
    before.collects(["trades", "book"], 0)
    before.take(_event("whole", "A", 4, 1))
    cursors = [cursor_of(Position(topic, 7, 0, 4)) for topic in ("book.A.", "trades.A.")]
    written = before.take_chunk()
    assert written is not None
    after = Intake(5)
    after.replay([Chunk([], [], cursors), written])
    after.start([Position("book.A.", 7, 0, 4)], 4)
    after.take(_received("trades", "A", Lost("height", 6, 6, "cut"), 2))
    after.fetched(6, Block(6, 6, [("0xA", trade("6_0"))], []), 1)
    chunk = after.take_chunk()
    assert chunk is not None
    assert [entry.topic for entry in chunk.entries] == ["trades.A."]


@pytest.mark.parametrize("is_first", [True, False])
def test_a_removed_market_that_comes_back_late_lacks_what_was_not_collected(is_first: bool) -> None:
    """Whether its gap or its first change comes first."""
    intake = Intake(5)
    _journal(intake, [("change", "A", height) for height in range(1, 5)], 3)
    intake.take(_event("removed", "A", 5, 5))
    gap = Gap("0xA", 5, "open", "removed", 5, 60, 60, "56 blocks not available")
    told = [_received("gap", "A", gap, 6), _event("change", "A", 63, 7)]
    for received in told if is_first else reversed(told):
        intake.take(received)
    assert intake._removed == set()
    assert intake.ledger.missing("A", 1, 100) == [(5, 60)]
