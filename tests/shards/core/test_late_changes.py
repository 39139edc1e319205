"""Work on books that waits until the source pauses."""

import pytest

from shards.core import late_changes
from shards.core.blocks import Blocks
from shards.core.pipeline import Pipeline
from shards.protocol import frames
from shards.protocol.events import Book
from shards.protocol.frames import KEYFRAME, Record
from shards.protocol.settings import Limits
from tests.shards.chain import FIRST
from tests.shards.one_market import CHAIN, ONE, SECOND, hear, pipeline, subscribe


def live(*, keyframe_every: int = 1_000, puts_off: bool = True) -> Pipeline[Blocks]:
    """A market that is live at FIRST."""
    one = pipeline(limits=Limits(keyframe_every=keyframe_every))
    one._late.is_open = puts_off
    subscribe(one)
    hear(one, FIRST)
    assert one.join(CHAIN.snapshot(ONE, FIRST), SECOND)
    one.take_records()
    one.take_requests()
    return one


def pause(one: Pipeline[Blocks]) -> list[Record]:
    """The source pauses until all work is done."""
    while one.has_late:
        one.settle(2)
    return one.take_records()


def is_right(record: Record, height: int) -> bool:
    """Whether a whole book is that of the chain after a block."""
    event = frames.EVENTS[record.kind].decode(record.event)
    assert isinstance(event, Book)
    truth = CHAIN.books[height][ONE]
    found = (event.sequence, dict(event.bids), dict(event.asks))
    return found == (truth.sequence, truth.bids, truth.asks)


def keyframes_of(records: list[Record]) -> list[Record]:
    return [record for record in records if record.flags & KEYFRAME]


def changing(number: int) -> int:
    """The height after FIRST that brings the book's n-th change."""
    before = CHAIN.books[FIRST][ONE].sequence
    return min(h for h, books in CHAIN.books.items() if books[ONE].sequence == before + number)


def test_a_change_is_published_before_it_is_in_the_book_and_counts_at_once() -> None:
    one, other = live(), live(puts_off=False)
    for made in (one, other):
        hear(made, *range(FIRST + 1, FIRST + 9))
    assert one.take_records() == other.take_records()
    assert (one.has_late, other.has_late) == (True, False)
    one.keyframes(SECOND)
    [record] = one.take_records()
    assert is_right(record, FIRST + 8), "who reads the book sees all changes"


def test_when_too_many_changes_wait_the_next_ones_do_not_until_the_source_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(late_changes, "MOST", 3)
    one, other = live(), live(puts_off=False)
    for last in (12, 20):
        for made in (one, other):
            hear(made, *range(made.feeds[ONE].ledger.last + 1, FIRST + last))
        assert len(one._late._books) == 3
        assert one.take_records() == other.take_records()
        assert pause(one) == []
    one.keyframes(SECOND)
    [record] = one.take_records()
    assert is_right(record, FIRST + 19)


def test_a_step_is_as_short_where_one_market_has_all_that_waits() -> None:
    one = live()
    hear(one, *range(FIRST + 1, changing(8) + 1))
    for left in (6, 4, 2, 0):
        one.settle(2)
        assert len(one.feeds[ONE].sync.book._deferred) == left
    one.take_records()
    one.keyframes(SECOND)
    [record] = one.take_records()
    assert is_right(record, changing(8))


def test_a_keyframe_is_made_in_the_pause() -> None:
    one = live(keyframe_every=1)
    height = changing(1)
    hear(one, *range(FIRST + 1, height + 1))
    assert keyframes_of(one.take_records()) == []
    [keyframe] = pause(one)
    assert keyframe.flags & KEYFRAME
    assert is_right(keyframe, height)
    assert pause(one) == [], "once"


@pytest.mark.parametrize(("every", "at_most"), [(1, 2), (4, 6), (7, 10)])
@pytest.mark.parametrize("puts_off", [True, False])
def test_a_keyframe_is_overdue_after_half_as_many_changes_more_where_there_is_no_pause(
    every: int, at_most: int, puts_off: bool
) -> None:
    one = live(keyframe_every=every, puts_off=puts_off)
    one._builder._lanes[ONE].first = one._builder._lanes[ONE].deltas = 0
    since, made = 0, 0
    for height in sorted(CHAIN.books):
        if height <= FIRST or CHAIN.books[height][ONE] == CHAIN.books[height - 1][ONE]:
            continue
        hear(one, *range(one.feeds[ONE].ledger.last + 1, height + 1))
        since += 1
        keyframes = keyframes_of(one.take_records())
        assert len(keyframes) == (since == at_most)
        for keyframe in keyframes:
            assert is_right(keyframe, height)
            since, made = 0, made + 1
    assert made
    assert len(keyframes_of(pause(one))) == (since >= every)


def test_the_keyframe_of_a_market_that_is_removed_or_lost_its_book_is_not_made() -> None:
    height = changing(1)
    for lost in (False, True):
        one = live(keyframe_every=1)
        hear(one, *range(FIRST + 1, height + 1))
        one.take_records()
        if lost:
            one.feeds[ONE].sync.lose(observed_from=height + 1)
        else:
            one.remove([ONE])
        assert keyframes_of(pause(one)) == []


def test_what_waits_is_done_before_the_process_ends() -> None:
    one = live(keyframe_every=1)
    hear(one, *range(FIRST + 1, changing(1) + 1))
    one.flush()
    [keyframe] = keyframes_of(one.take_records())
    assert is_right(keyframe, changing(1))
    assert not one.has_late
