"""A market's book through a part: whatever came, in whatever order, changes once and holes counted."""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from collector.archive.journal.segment_file import Entry
from collector.archive.sealing import book_track
from collector.archive.sealing.book_track import Carried, Track
from collector.archive.storage.layout import Part
from collector.tables.book_changes import Changes
from shards.protocol.events import ZERO, Book, Level
from shards.protocol.order_book import OrderBook

ONE = "1.000000000000000000"
PART = Part(100, 199)


def _price(n: int) -> str:
    return f"{n}.000000000000000000"


def _entry(event: Book) -> Entry:
    return Entry("book.INJ-USDT.", 1, event.height, msgspec.msgpack.encode(event))


def _delta(sequence: int, source: str = "chain-ws") -> Book:
    """Each change sets one bid, and takes another away."""
    bids: list[Level] = [(_price(sequence % 7 + 1), ONE), (_price((sequence + 3) % 7 + 1), ZERO)]
    return Book("0x1", 100 + sequence, sequence, sequence, 0, source, False, bids, [])


def _truth(through: int, begin: int = 0) -> OrderBook:
    book = OrderBook("0x1")
    for sequence in range(1, through + 1):
        change = _delta(sequence)
        book.change(sequence, change.bids, change.asks)
    book.sequence = through
    return book


def _whole(sequence: int) -> Book:
    bids, asks = _truth(sequence).levels()
    return Book("0x1", 100 + sequence, sequence, 0, 0, "query", True, bids, asks)


def _carried(sequence: int) -> Carried:
    bids, asks = _truth(sequence).levels()
    return Carried("0x1", "INJ-USDT", 99, sequence, bids, asks)


@pytest.fixture(autouse=True, scope="module", params=[1, 3, 1_024])
def _at_once(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book_track, "_AT_ONCE", request.param)
        yield


def _walk(carried: Carried | None, events: list[Book]) -> tuple[Track, list[Book]]:
    changes: list[Book] = []

    def put(some: Changes) -> None:
        changes.extend(some.events())

    track = Track("INJ-USDT", PART, carried, put=put)
    track.walk(map(_entry, events))
    assert track.changes == len(changes)
    assert track.first_sequence == (changes[0].sequence if changes else None)
    assert track.last_sequence == (changes[-1].sequence if changes else None)
    return track, changes


def test_changes_in_order_are_rows_and_end_in_the_book() -> None:
    track, changes = _walk(_carried(10), [_delta(s) for s in range(11, 31)])
    assert [event.sequence for event in changes] == list(range(11, 31))
    assert [row[-1] for row in track.keyframes] == ["part"]
    assert track.sequences_missing == 0
    end = track.end("0x1")
    assert end is not None
    assert (end.sequence, end.bids) == (30, _truth(30).levels()[0])


def test_what_was_told_in_the_part_before_is_no_row() -> None:
    _, changes = _walk(_carried(10), [_delta(s) for s in range(8, 14)])
    assert [event.sequence for event in changes] == [11, 12, 13]


def test_live_goes_before_replayed_whatever_came_first() -> None:
    track, changes = _walk(
        _carried(1), [_delta(2, "replay"), _delta(2), _delta(3), _delta(3, "replay")]
    )
    assert [event.source for event in changes] == ["chain-ws", "chain-ws"]
    assert track.replayed == 0


def test_a_hole_is_counted_and_the_next_whole_book_takes_its_place() -> None:
    track, _ = _walk(_carried(10), [_delta(11), _whole(15), _delta(16), _delta(17)])
    assert track.sequences_missing == 4
    assert [row[-1] for row in track.keyframes] == ["part", "resync"]
    end = track.end("0x1")
    assert end is not None
    assert end.bids == _truth(17).levels()[0]


def test_a_whole_book_behind_a_hole_that_was_filled_is_not_needed() -> None:
    events = [_delta(11), _whole(15), *(_delta(s, "replay") for s in range(12, 16)), _delta(16)]
    track, changes = _walk(_carried(10), events)
    assert track.sequences_missing == 0
    assert [row[-1] for row in track.keyframes] == ["part"]
    assert [event.sequence for event in changes] == list(range(11, 17))


def test_without_a_whole_book_after_a_hole_the_end_is_not_known() -> None:
    track, _ = _walk(_carried(10), [_delta(11), _delta(14)])
    assert track.sequences_missing == 2
    assert track.end("0x1") is None


@settings(deadline=None)
@given(
    st.sets(st.integers(11, 40)),
    st.sets(st.integers(11, 40), max_size=4),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_whatever_came_in_whatever_order(
    deltas: set[int], wholes: set[int], random: object, carry: bool
) -> None:
    events = [_delta(s) for s in deltas] + [_whole(s) for s in wholes]
    random.shuffle(events)  # type: ignore[attr-defined]
    track, changes = _walk(_carried(10) if carry else None, events)
    assert [event.sequence for event in changes] == sorted(deltas)
    newest = max([*deltas, *wholes, 10 if carry else 0])
    if carry:
        assert track.sequences_missing == len(set(range(11, newest + 1)) - deltas)
    end = track.end("0x1")
    if end is not None:
        assert end.sequence == newest
        assert end.bids == _truth(newest).levels()[0]


def _older(sequence: int, height: int) -> Carried:
    return msgspec.structs.replace(_carried(sequence), height=height)


@pytest.mark.parametrize(
    ("lacking", "height"),
    [([], 199), ([(190, 199)], 189), ([(150, 160), (190, 195)], 149), ([(110, 120)], 199)],
)
def test_a_book_is_carried_as_far_as_it_is_known(
    lacking: list[tuple[int, int]], height: int
) -> None:
    track, _ = _walk(_carried(10), [_delta(s) for s in range(11, 31)])
    end = track.end("0x1", lacking)
    assert end is not None
    assert (end.height, end.sequence) == (height, 30)


@pytest.mark.parametrize(
    ("events", "height", "missing"),
    [
        ([], 90, 0),
        ([_delta(11)], 199, 0),
        ([_whole(10)], 199, 0),
        ([_whole(15), _delta(16)], 199, 0),
        ([_whole(15), _delta(18), _whole(18)], 199, 2),
    ],
)
def test_a_book_from_before_missing_blocks_is_so_until_something_tells(
    events: list[Book], height: int, missing: int
) -> None:
    track, _ = _walk(_older(10, 90), events)
    end = track.end("0x1")
    assert end is not None
    assert (end.height, track.sequences_missing) == (height, missing)
