"""Blocks missing at the end of a part: the next one's book is of before them, and says so."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.archive.journal.segment_file import Chunk, Note, Writer
from collector.archive.reading.book_at import book_at
from collector.archive.reading.tables import HolesError, read
from collector.archive.replay import events_of
from collector.archive.sealing import seal
from collector.archive.sealing.additions import add
from collector.archive.storage.layout import part_of
from collector.client.received import Received
from collector.client.subscriber import Subscriber
from shards.protocol.events import Book, Trades
from tests.collector.archive import written
from tests.collector.archive.replay.test_replay import Replayed, events
from tests.collector.archive.written import DAY, SPAN, SYMBOL, change, entry, trades

LOST = (107, 109)
QUIET = range(110, 113)
"""Blocks after that without a change."""
LAST = 139


def _change(height: int, source: str = "chain-ws") -> Book:
    """Make a block's change; the sequence does not count the quiet blocks."""
    event = change(height, source)
    passed = len(QUIET) if height > QUIET[-1] else 0
    return msgspec.structs.replace(event, sequence=event.sequence - passed)


def _whole_after(height: int) -> dict[Any, Any]:
    """Return the bids after a block by the simplest means."""
    bids: dict[Any, Any] = dict(written.whole(100).bids)
    for changed in range(101, height + 1):
        if changed not in QUIET:
            bids |= dict(_change(changed).bids)
    return {price: quantity for price, quantity in bids.items() if float(quantity)}


def _spelled(found: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {f"{price:f}": f"{quantity:f}" for price, quantity in found}


def _sealed(root: Path, first: int, note: Note) -> None:
    heights = [h for h in range(101, LAST + 1) if not LOST[0] <= h <= LOST[1]]
    made = [entry("book", written.whole(100))]
    for height in heights:
        made += [entry("book", _change(height))] if height not in QUIET else []
        made.append(entry("trades", trades(height)))
    written.write(root, made, [Note("lost", SYMBOL, *LOST, "cut"), note], begin=first)
    for start in range(100, LAST, SPAN):
        seal.seal(root, part_of(start, SPAN), ts=DAY)


def _add(root: Path) -> None:
    """Add what was lost."""
    writer = Writer(root)
    for height in range(LOST[0], LOST[1] + 1):
        writer.append(Chunk([entry("book", _change(height, "replay"))], [Note("filled", SYMBOL, height, height)]))  # fmt: skip
    writer.close()
    assert add(root, part_of(LOST[0], SPAN), ts=DAY) is not None


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "archive"
    _sealed(made, 101, Note("gone", "", *LOST))
    return made


def test_no_book_is_told_from_before_the_missing_blocks(root: Path) -> None:
    assert _spelled(book_at(root, SYMBOL, 106).bids) == _whole_after(106)
    for height in (109, *QUIET):
        with pytest.raises(HolesError, match="heights 107-109 of INJ-USDT are missing"):
            book_at(root, SYMBOL, height)
    keyframes = read(root, "keyframe", holes="allow").arrow.to_pylist()
    assert [(row["height"], row["sequence"]) for row in keyframes] == [(100, 100), (106, 106)]


def test_once_they_are_added_every_book_is_right(root: Path) -> None:
    _add(root)
    for height in range(101, LAST + 1):
        assert _spelled(book_at(root, SYMBOL, height).bids) == _whole_after(height), height


def test_their_changes_are_not_missing_in_the_next_part(root: Path) -> None:
    _add(root)
    found = read(root, "coverage").arrow.to_pylist()
    assert [row["missing"] + row["sequences_missing"] for row in found] == [0, 0, 0, 0]


@pytest.mark.parametrize("first", [101, 105, 110])
def test_a_replay_does_not_go_back_to_the_book_from_before(root: Path, first: int) -> None:
    _add(root)
    with (
        Replayed(root, speed=0.0, first=first) as one,
        Subscriber(one.publish, keep_books=True) as subscriber,
    ):
        found = [r.event for r in events(subscriber, LAST) if isinstance(r.event, Book)]
        book = subscriber.book(SYMBOL)
    assert book is not None
    assert dict(book.levels()[0]) == _whole_after(LAST)
    if first < QUIET[0]:
        assert [event.is_snapshot for event in found].count(True) == 1
        sequences = [event.sequence for event in found]
        assert sequences == list(range(sequences[0], sequences[-1] + 1))


def test_a_reader_that_joins_a_replay_later_has_the_right_book(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add(root)
    monkeypatch.setattr(events_of, "KEYFRAME_EVERY", 2)
    with Replayed(root, speed=5.0, first=105) as one, Subscriber(one.publish) as early:
        assert any(_height(received) >= 117 for received in events(early, LAST))
        with Subscriber(one.publish, keep_books=True) as late:
            for received in events(late, LAST):
                if received.channel == "book" and (book := late.book(SYMBOL)) is not None:
                    truth = _whole_after(_height(received))
                    assert dict(book.levels()[0]) == truth, _height(received)
            assert late.book(SYMBOL) is not None


def _height(received: Received) -> int:
    assert isinstance(received.event, Book | Trades)
    return received.event.height


def test_a_book_that_is_not_recorded_any_more_is_not_carried_on(tmp_path: Path) -> None:
    made = [entry("book", written.whole(100))]
    made += [entry("book", change(height)) for height in range(101, 106)]
    made += [entry("trades", trades(height)) for height in range(101, 130)]
    channels = [
        Note("channels", "", 101, 0, "book trades"),
        Note("channel-end", "", 106, 0, "book"),
    ]
    written.write(tmp_path, made, channels, begin=101)
    for first in (100, 110, 120):
        seal.seal(tmp_path, part_of(first, SPAN), ts=DAY)
    keyframes = read(tmp_path, "keyframe", holes="allow").arrow.to_pylist()
    assert [row["height"] for row in keyframes] == [100]
    assert _spelled(book_at(tmp_path, SYMBOL, 105).bids) == dict(written.whole(105).bids)
    for height in (106, 115, 129):
        with pytest.raises(HolesError, match=r"heights 106.* of INJ-USDT are missing"):
            book_at(tmp_path, SYMBOL, height)


def test_a_market_that_was_removed_has_its_last_book_in_every_part(tmp_path: Path) -> None:
    made = [entry("book", written.whole(100))]
    made += [entry("book", change(height)) for height in range(101, 106)]
    written.write(tmp_path, made, [Note("removed", SYMBOL, 106, 0)], begin=101)
    for first in (100, 110, 120):
        seal.seal(tmp_path, part_of(first, SPAN), ts=DAY)
    keyframes = read(tmp_path, "keyframe", holes="allow").arrow.to_pylist()
    assert [row["height"] for row in keyframes] == [100, 109, 119]
