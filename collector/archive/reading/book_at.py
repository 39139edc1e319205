"""A market's whole book at a height or an instant, from its keyframe and its changes."""

import decimal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from collector.archive.journal import segment_file
from collector.archive.reading import holes
from collector.archive.reading.bounds import EVER, Bound, bounds
from collector.archive.reading.instants import DATED
from collector.archive.reading.tables import (
    GLOB,
    HolesError,
    HolesWarning,
    in_markets,
    within_range,
)
from collector.archive.reading.unsealed import unsealed
from collector.archive.storage import layout, manifest
from collector.archive.storage.files import open_archive, with_files
from collector.archive.storage.layout import part_of
from collector.archive.storage.manifest import File
from collector.archive.storage.part_file import read_file
from shards.protocol.ranges import union, within

_OF_BOOKS: Final = ["market_id", "height", "sequence", "bids", "asks", "overflow"]


class BookAt(NamedTuple):
    """A market's whole book after a block; best levels first, ``(price, quantity)``."""

    market: str
    height: int
    """The block of its last change, or of the whole book that it began with."""
    sequence: int
    bids: list[tuple[decimal.Decimal, decimal.Decimal]]
    asks: list[tuple[decimal.Decimal, decimal.Decimal]]


def book_at(root: str | Path, market: str, at: Bound) -> BookAt:
    """
    Return a market's whole book as it was after a height, or at an instant.

    After the archive's end it is the newest book, with a `HolesWarning`.

    Raises:
        ConfigError: If there is no archive.
        ValueError: If the archive has no such market, or none of its books names a height.
        HolesError: If changes before it are missing, or there was no book yet.

    """
    if GLOB.intersection(market):
        raise ValueError(f"{market!r}: a book is of one market, so no glob is taken")
    (heights, times) = bounds(None, at)
    last, until = heights and heights[1], times and times[1]
    book, said = with_files(lambda: _Books(Path(root), market).at(last, until, at))
    if said:
        warnings.warn(said, HolesWarning, stacklevel=2)
    return book


class _Books:
    """One market's books in one archive, as it is now."""

    def __init__(self, root: Path, market: str) -> None:
        self._root, self._market = root, market
        self._span = open_archive(root).span
        # Before the manifest: what is sealed meanwhile is then named there, or its journal is missed.
        segments = segment_file.segments(root)
        lines = manifest.read(root)
        self._files = sorted(manifest.current(lines).values(), key=lambda f: (f.first, f.path))
        self._books = holes.InChannel("book", manifest.by_channel(lines))
        self._tail = unsealed(segments, "book", self._span, manifest.sealed(lines))

    def at(self, height: int | None, until: int | None, asked: Bound) -> tuple[BookAt, str]:
        """Return the book after a height, or at an instant in ns; and what is to be said of it."""
        said = ""
        through = max((self._tail.through, *(file.last for file in self._of(layout.COVERAGE))))
        if until is not None:
            height, is_over = self._height_at(until)
            if is_over:
                said = f"this archive ends before {asked}: the book is as of height {height}"
        elif height is not None and height > through:
            said = f"this archive ends at height {through}, before {height}: the book is as of then"
        last = through if height is None else min(height, through)
        begin, whole = self._whole(last)
        if whole is None:
            # Refuses an unknown market.
            within_range(self._root, layout.COVERAGE, (self._market,), None, None)
            raise HolesError(f"no whole book of {self._market} is in this archive before {asked}")
        book = _applied(self._market, whole, self._changes(begin, last, until))
        if lost := self._missing(begin, book.height + 1, last):
            text = f"heights {holes.spell(lost)} of {self._market} are missing in this archive"
            raise HolesError(text)
        return book, said

    def _of(self, *channels: str) -> Iterator[File]:
        return (file for file in self._files if file.channel in channels)

    def _height_at(self, until: int) -> tuple[int, bool]:
        """Return the newest height up to an instant, -1 without any; and whether none follows."""
        is_over = True
        for table in self._dated(layout.date_of(until)):
            times = table["ts_event"].cast(pa.int64())
            newest = pc.max(times).as_py()
            is_over = is_over and (newest is None or newest < until)
            height = pc.max(table["height"].filter(pc.less_equal(times, until))).as_py()
            if height is not None:
                return height, is_over
        return -1, False

    def _dated(self, newest: str) -> Iterator[pa.Table]:
        """Yield the heights and instants of parts up to a date, the newest first."""
        names = ["height", "ts_event"]
        if self._tail.table is not None:
            yield self._tail.table.select(names)
        files = [file for file in self._of(*DATED) if file.date <= newest]
        if len(files) < sum(1 for _ in self._of(*DATED)):
            # The archive goes on after that date.
            yield pa.table({"height": [None], "ts_event": [EVER]})
        for first in sorted({file.first for file in files}, reverse=True):
            of_part = [file for file in files if file.first == first]
            yield pa.concat_tables([read_file(self._root, file, names) for file in of_part])

    def _whole(self, last: int) -> tuple[int, dict[str, Any] | None]:
        """Return the newest whole book up to a height, nearly always of the last part there."""
        for table in self._wholes(last):
            found = in_markets(table, (self._market,)).select(_OF_BOOKS).to_pylist()
            rows = [row for row in found if (row["height"] or 0) <= last]
            if rows:
                whole = max(rows, key=lambda row: (row["height"] or 0, row["sequence"]))
                return part_of(whole["height"] or 0, self._span).first, whole
        return 0, None

    def _wholes(self, last: int) -> Iterator[pa.Table]:
        """Yield the whole books of parts that begin by a height, the newest first."""
        if self._tail.wholes is not None:
            yield self._tail.wholes
        files = [file for file in self._of(layout.KEYFRAME) if file.first <= last + 1]
        for file in reversed(files):
            yield read_file(self._root, file)

    def _changes(self, begin: int, last: int, until: int | None) -> list[dict[str, Any]]:
        """Return the changes from a part on, up to a height or an instant."""
        # Changes of some sources name their instant alone.
        newest = "" if until is None else layout.date_of(until)
        files = [
            file
            for file in self._of("book")
            if begin <= file.first and (file.date <= newest if newest else file.first <= last)
        ]
        tables = [read_file(self._root, file) for file in files]
        if self._tail.table is not None:
            tables.append(self._tail.table)
        rows: list[dict[str, Any]] = []
        for table in tables:
            found = in_markets(table, (self._market,))
            if until is not None:
                found = found.filter(pc.less_equal(found["ts_event"].cast(pa.int64()), until))
            elif found["height"].null_count:
                text = f"the changes of {self._market}'s book name no heights: give an instant"
                raise ValueError(text)
            else:
                found = found.filter(pc.less_equal(found["height"], last))
            rows += found.select(_OF_BOOKS).to_pylist()
        return rows

    def _missing(self, begin: int, first: int, last: int) -> list[tuple[int, int]]:
        """Return the heights of a range that are missing, of parts from one on."""
        files = [file for file in self._of(layout.COVERAGE) if file.first >= begin]
        # The part after the range shows that the archive goes on.
        end = next((file.first for file in files if file.first > last), EVER)
        near = {file.path: file for file in files if file.first <= end}
        known = [*holes.covered(self._root, near, ("*",), self._books), *self._tail.due]
        parts = holes.of_markets(known, (self._market,))
        # The first whole book is of a block from before the recorder's first.
        first = max(first, min((part.first for part in parts), default=first))
        newest = max((part.last for part in parts), default=0)
        found = holes.holes(parts, first, min(last, newest)) if first <= newest else {}
        lost = [r for ranges in found.values() for r in ranges]
        for symbol, ranges in self._tail.missing.items():
            if holes.matches(symbol, (self._market,)):
                lost += within(ranges, first, last)
        return union(lost)


def _put_back(row: dict[str, Any]) -> None:
    """
    Put amounts that are too long for their column in their places, which are in order.

    A level with an amount that is no number is left out: no order can be there.
    """
    notes = row["overflow"] or ()
    for note in notes:
        side, _, name = note["column"].partition(".")
        level = next(level for level in row[side] if level[name] is None)
        level[name] = _number(note["text"])
    for side in ("bids", "asks") if notes else ():
        row[side] = [level for level in row[side] if all(v.is_finite() for v in level.values())]


def _number(text: str) -> decimal.Decimal:
    try:
        return decimal.Decimal(text)
    except decimal.InvalidOperation:
        return decimal.Decimal("NaN")


def _applied(market: str, whole: dict[str, Any], changes: list[dict[str, Any]]) -> BookAt:
    for row in (whole, *changes):
        _put_back(row)
    sides: dict[str, dict[Any, Any]] = {"bids": {}, "asks": {}}
    for side, found in sides.items():
        found.update((level["price"], level["quantity"]) for level in whole[side])
    height, sequence = whole["height"] or 0, whole["sequence"]
    for row in sorted(changes, key=lambda row: int(row["sequence"])):
        # The symbol may have been that of another market before.
        if row["sequence"] <= sequence or row["market_id"] != whole["market_id"]:
            continue
        if row["sequence"] != sequence + 1:
            text = f"changes {sequence + 1} to {row['sequence'] - 1} of {market}'s book are missing"
            raise HolesError(text)
        height, sequence = row["height"] or height, row["sequence"]
        for side, found in sides.items():
            found.update((level["price"], level["quantity"]) for level in row[side])
    bids, asks = (
        sorted((level for level in found.items() if level[1]), reverse=side == "bids")
        for side, found in sides.items()
    )
    return BookAt(market, height, sequence, bids, asks)
