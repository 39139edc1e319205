"""Many changes of a book as columns: the same values as row by row."""

import msgspec
import pytest
from hypothesis import given, strategies as st

from collector.archive.journal.packing import array_of
from collector.archive.journal.segment_file import Entry
from collector.tables.arrow import batch_of, batch_of_columns
from collector.tables.book_changes import columns_of, decoded
from collector.tables.rows import book_row
from collector.tables.schema import TABLES
from shards.protocol.events import Book, Level

_encode = msgspec.msgpack.encode
_TABLE = TABLES["book"]


def _entry(event: Book) -> Entry:
    number = event.sequence
    return Entry("book.A.", 1, number, _encode(event), 7, number, number % 2 * 10**15)


def _columns(events: list[Book]) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Return the rows that the columns of the events make, and those that each event makes."""
    entries = [_entry(event) for event in events]
    changes = decoded(array_of([entry.event for entry in entries]), entries)
    assert [changes.event(number) for number in range(len(events))] == events
    columns = columns_of(changes, "A")
    rows = [book_row(event, "A", entry) for event, entry in zip(events, entries, strict=True)]
    assert batch_of_columns(_TABLE, columns) == batch_of(_TABLE, rows)
    return list(zip(*columns, strict=True)), rows


def _amount(units: int) -> str:
    return f"{units // 1000}.{units % 1000:03}{'0' * 15}"


_sides = st.lists(
    st.tuples(st.integers(0, 12_000).map(_amount), st.integers(0, 9).map(_amount)),
    max_size=5,
    unique_by=lambda level: level[0],
)


@given(st.lists(st.tuples(_sides, _sides), min_size=1, max_size=20))
def test_columns_are_those_of_the_rows(levels: list[tuple[list[Level], list[Level]]]) -> None:
    events = [
        Book("0x1", number % 3, number, number % 2 * 10**15, 0, "chain-ws", False, bids, asks)
        for number, (bids, asks) in enumerate(levels, 1)
    ]
    columns, rows = _columns(events)
    assert columns == rows


def test_an_amount_that_is_too_long_is_kept_as_a_text() -> None:
    long = f"123456789012345678901.{0:018}"
    event = Book("0x1", 1, 1, 5, 5, "chain-ws", False, [(long, _amount(1))], [(_amount(7), long)])
    columns, rows = _columns([event, event])
    assert columns == rows
    assert batch_of(_TABLE, rows)[1] == 4


def test_something_else_than_a_book_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded(array_of([_encode(("0x1", 1, 1))]), [Entry("book.A.", 1, 1, b"")])
