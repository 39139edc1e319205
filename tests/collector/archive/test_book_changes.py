"""Many changes of a book as columns: the same values as row by row."""

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from collector.archive.journal.packing import array_of
from collector.archive.journal.segment_file import Entry
from collector.tables.arrow import batch_of, batch_of_columns, rows_from
from collector.tables.book_changes import columns_of, decoded, facts_of
from collector.tables.rows import book_row
from collector.tables.schema import TABLES
from shards.protocol.events import Book, Level
from shards.protocol.order_book import OrderBook

_encode = msgspec.msgpack.encode
_TABLE = TABLES["book"]


def _entry(event: Book) -> Entry:
    number = event.sequence
    return Entry("book.A.", 1, number, _encode(event), 7, number, number % 2 * 10**15)


def _check(events: list[Book]) -> int:
    """Compare the columns of some events with the rows that each event makes; count what overflows."""
    entries = [_entry(event) for event in events]
    changes = decoded(array_of([entry.event for entry in entries]), entries)
    assert changes.events() == events
    rows = [book_row(event, "A", entry) for event, entry in zip(events, entries, strict=True)]
    batch, overflows = batch_of_columns(_TABLE, columns_of(changes, "A"))
    batch.validate(full=True)
    assert (batch, overflows) == batch_of(_TABLE, rows)
    facts = [i for i, column in enumerate(_TABLE.columns) if column.is_fact]
    encoded = _encode(list(zip(*facts_of(changes), strict=True)))
    assert encoded == _encode([[row[i] for i in facts] for row in rows])
    whole, told = OrderBook("0x1"), OrderBook("0x1")
    for event in events:
        whole.change(event.sequence, event.bids, event.asks)
    told.change(whole.sequence, *changes.sides.newest())
    assert told.levels() == whole.levels()
    return overflows


def _amount(units: int) -> str:
    return f"{units // 1000}.{units % 1000:03}{'0' * 15}"


def _sides(amounts: st.SearchStrategy[str], most: int) -> st.SearchStrategy[list[Level]]:
    """Return sides in any order, or in the one that a chain has; prices may come twice."""
    levels = st.lists(st.tuples(amounts, st.integers(0, 9).map(_amount)), max_size=most)
    return levels | levels.map(sorted)


_events = st.lists(
    st.tuples(
        _sides(st.integers(0, 12_000).map(_amount), 5)
        | _sides(st.integers(0, 90).map(_amount), 40),
        _sides(st.integers(0, 12_000).map(_amount), 5),
    ),
    min_size=1,
    max_size=20,
)
_RUBBISH = ["", "abc", ".", "NaN", "1 ", "1_0", "\x00", "1e40", "1e22", "9" * 28, "1e-30"]
_odd = st.sampled_from(["1", "-3.5", "007", f"{10**19}.{0:018}", f"{10**21}.{0:018}", *_RUBBISH])


def _books(levels: list[tuple[list[Level], list[Level]]]) -> list[Book]:
    return [
        Book("0x1", number % 3, number, number % 2 * 10**15, 0, "chain-ws", False, bids, asks)
        for number, (bids, asks) in enumerate(levels, 1)
    ]


@given(_events)
def test_columns_are_those_of_the_rows(levels: list[tuple[list[Level], list[Level]]]) -> None:
    _check(_books(levels))


@given(st.lists(st.tuples(_sides(_odd, 4), _sides(_odd, 20)), min_size=1, max_size=5))
def test_so_are_those_of_unusual_texts(levels: list[tuple[list[Level], list[Level]]]) -> None:
    _check(_books(levels))


def test_the_chains_levels_need_no_object_each() -> None:
    """Prices rise on both sides; some sides are longer than MessagePack's short arrays."""
    for most in (2, 15, 16, 300):
        side = [(_amount(price), _amount(price + 1)) for price in range(most)]
        events = _books([(side, []), ([], side), (side[:1], side[1:])])
        assert _check(events) == 0
        entries = [_entry(event) for event in events]
        changes = decoded(array_of([entry.event for entry in entries]), entries)
        for column in changes.sides.columns():
            assert isinstance(column, pa.ListArray)


def test_an_amount_that_is_too_long_is_kept_as_a_text() -> None:
    long = f"123456789012345678901.{0:018}"
    event = Book("0x1", 1, 1, 5, 5, "chain-ws", False, [(long, _amount(1))], [(_amount(7), long)])
    assert _check([event, event]) == 4


@pytest.mark.parametrize("text", _RUBBISH)
def test_an_amount_that_is_no_number_is_kept_as_a_text(text: str) -> None:
    side = [(_amount(1), text), (text, _amount(2)), (_amount(3), _amount(4))]
    events = [*_books([(side, [])]), *_books([([], side[2:])])]
    assert _check(events) == 2
    entry = _entry(events[0])
    row = book_row(events[0], "A", entry)
    assert list(rows_from(_TABLE, batch_of(_TABLE, [row])[0])) == [row]


def test_fields_that_a_newer_version_appended_are_left_out() -> None:
    event = _books([([(_amount(1), _amount(2))], [])])[0]
    fields = msgspec.structs.astuple(event)
    encoded = [_encode(event), _encode((*fields, "more")), _encode((*fields, 1, {}))]
    changes = decoded(array_of(encoded), [_entry(event)] * 3)
    assert changes.events() == [event] * 3


@pytest.mark.parametrize("level", [(1, 2), ("1",), ("1", "2", "3"), "12", ("1", b"2"), ("1", None)])
def test_a_side_of_something_else_is_refused(level: object) -> None:
    event = _encode(("0x1", 1, 1, 1, 1, "chain-ws", False, [level], []))
    changes = decoded(array_of([event]), [Entry("book.A.", 1, 1, event)])
    with pytest.raises(msgspec.ValidationError):
        changes.sides.newest()


def test_something_else_than_a_book_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded(array_of([_encode(("0x1", 1, 1))]), [Entry("book.A.", 1, 1, b"")])
