"""A book at any height or instant is the right one, or an error names what is missing."""

import datetime
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.archive.journal.segment_file import Note
from collector.archive.reading.book_at import BookAt, book_at
from collector.archive.reading.tables import HolesError, HolesWarning, read
from collector.archive.sealing import seal
from collector.archive.storage import layout, manifest
from collector.archive.storage.part_file import read_file
from tests.collector.archive import written
from tests.collector.archive.written import SPAN, SYMBOL, change, entry, instant, sealed, trades

FIRST, LAST = 101, 145
SEALED_THROUGH = 139


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sealed parts over midnight, and some heights in the journal only."""
    path = tmp_path_factory.mktemp("books") / "archive"
    sealed(path, FIRST, LAST)
    return path


def _is_after(book: BookAt, height: int) -> bool:
    expected = written.whole(height)
    sides = (book.bids, expected.bids), (book.asks, expected.asks)
    return book.height == height and all(
        [(f"{p:f}", f"{q:f}") for p, q in found] == due for found, due in sides
    )


def _time(ns: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(ns / 1e9, datetime.UTC)


@pytest.mark.parametrize("height", [*range(FIRST, LAST)])
@pytest.mark.parametrize("later_ms", [0, 1, 499])
def test_a_book_at_an_instant_is_that_of_the_newest_block(
    root: Path, height: int, later_ms: int
) -> None:
    at = _time(instant(height) + later_ms * 1_000_000)
    assert _is_after(book_at(root, SYMBOL, at), height)


@pytest.mark.parametrize("height", [*range(FIRST, LAST + 1)])
def test_a_book_at_a_height_is_that_after_the_block(root: Path, height: int) -> None:
    assert _is_after(book_at(root, SYMBOL, height), height)


def test_before_the_first_book_there_is_none(root: Path) -> None:
    for at in (5, _time(instant(FIRST) - 3_600_000_000_000)):
        with pytest.raises(HolesError, match="no whole book of INJ-USDT"):
            book_at(root, SYMBOL, at)


@pytest.mark.parametrize("at", [LAST + 1, 10**9, _time(instant(LAST + 9)), "2030-01-01"])
def test_after_the_end_it_says_so(root: Path, at: Any) -> None:
    with pytest.warns(HolesWarning, match=f"this archive ends .* as of (then|height {LAST})"):
        assert _is_after(book_at(root, SYMBOL, at), LAST)


def test_the_newest_book_needs_no_warning(root: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for at in (None, LAST, _time(instant(LAST))):
            assert _is_after(book_at(root, SYMBOL, at), LAST)


def _lacking(root: Path, lost: tuple[int, int], parts: tuple[int, ...]) -> None:
    """Make an archive that lacks some heights for good."""
    had = [h for h in range(101, 120) if not lost[0] <= h <= lost[1]]
    made = [entry("book", written.whole(100))]
    made += [e for h in had for e in (entry("book", change(h)), entry("trades", trades(h)))]
    written.write(
        root, made, [Note("lost", SYMBOL, *lost, "cut"), Note("gone", "", *lost)], begin=101
    )
    for first in parts:
        seal.seal(root, layout.part_of(first, SPAN), ts=written.DAY)


@pytest.mark.parametrize("parts", [(), (100,), (100, 110)])
def test_a_book_is_refused_while_its_newest_changes_are_missing(
    tmp_path: Path, parts: tuple[int, ...]
) -> None:
    root = tmp_path / "archive"
    _lacking(root, (104, 106), parts)
    assert _is_after(book_at(root, SYMBOL, 103), 103)
    for at in (104, 105, 106):
        with pytest.raises(HolesError, match=f"heights 104(-{at})? of INJ-USDT are missing"):
            book_at(root, SYMBOL, at)
    with pytest.raises(HolesError, match="changes 104 to 106"):
        book_at(root, SYMBOL, 108)


def test_only_the_parts_that_matter_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from collector.archive.reading import book_at as module

    opened: list[manifest.File] = []

    def noted(path: Path, file: manifest.File, *columns: Any) -> Any:
        opened.append(file)
        return read_file(path, file, *columns)

    monkeypatch.setattr(module, "read_file", noted)
    for at in (115, _time(instant(115))):
        opened.clear()
        assert _is_after(book_at(root, SYMBOL, at), 115)
        assert {file.first for file in opened} <= {100, 110}


@pytest.mark.parametrize("parts", [(), (100,)])
def test_amounts_too_long_for_their_column_are_in_the_book(
    tmp_path: Path, parts: tuple[int, ...]
) -> None:
    root, huge = tmp_path / "archive", 10**24
    changes = [change(height) for height in range(101, 110)]
    changes[4].bids.append((written.amount(7), written.amount(huge)))
    changes[5].asks.append((written.amount(huge), written.amount(3)))
    made = [entry("book", event) for event in (written.whole(100), *changes)]
    written.write(root, made, begin=101)
    for first in parts:
        seal.seal(root, layout.part_of(first, SPAN), ts=written.DAY)
    book = book_at(root, SYMBOL, 109)
    assert dict(book.bids)[Decimal(7)] == huge
    assert book.asks[-1] == (Decimal(huge), Decimal(3))


@pytest.mark.parametrize("parts", [(), (100,), (100, 110)])
@pytest.mark.parametrize("again", [106, 110, 114])
def test_a_symbol_may_go_to_another_market(
    tmp_path: Path, parts: tuple[int, ...], again: int
) -> None:
    """The second market's sequences are lower than the first one's: nothing of it is dropped."""
    root, other = tmp_path / "archive", "0x" + "b6" * 32

    def second(event: Any) -> Any:
        return msgspec.structs.replace(event, market_id=other, sequence=event.sequence - again + 1)

    made = [entry("book", written.whole(100))]
    made += [entry("book", change(height)) for height in range(101, again)]
    begun = msgspec.structs.replace(written.whole(again - 1), bids=[], asks=[])
    made.append(msgspec.structs.replace(entry("book", second(begun)), height=again))
    made += [entry("book", second(change(height))) for height in range(again, 120)]
    written.write(root, made, begin=101)
    for part in parts:
        seal.seal(root, layout.part_of(part, SPAN), ts=written.DAY)
    rows = read(root, "book").arrow
    assert sorted(rows["height"].to_pylist()) == list(range(101, 120))
    assert _is_after(book_at(root, SYMBOL, again - 2), again - 2)
    for height in range(again, 120):
        book = book_at(root, SYMBOL, height)
        assert (book.height, book.sequence) == (height, height - again + 1)
        assert book.bids[0][0] == Decimal(height)
    if parts:
        coverage = read(root, "coverage").arrow.to_pylist()
        assert not any(row["sequences_missing"] for row in coverage)


def test_the_first_whole_book_may_be_older_than_the_first_block(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    made = [msgspec.structs.replace(entry("book", written.whole(97)), height=101)]
    written.write(root, [*made, entry("trades", trades(103))], begin=101)
    seal.seal(root, layout.part_of(100, SPAN), ts=written.DAY)
    assert book_at(root, SYMBOL, 105).sequence == 97
