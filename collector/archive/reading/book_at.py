"""A market's whole book at a height or an instant, from its keyframe and its changes."""

import decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa

from collector.archive.reading.bounds import Bound, bounds
from collector.archive.reading.tables import GLOB, HolesError, read
from collector.archive.storage.files import open_archive
from collector.archive.storage.layout import part_of

_OF_BOOKS: Final = ["market_id", "height", "sequence", "bids", "asks"]


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

    Raises:
        ConfigError: If there is no archive.
        ValueError: If the archive has no such market.
        HolesError: If changes before it are missing, or there was no book yet.

    """
    if GLOB.intersection(market):
        raise ValueError(f"{market!r}: a book is of one market, so no glob is taken")
    root = Path(root)
    (heights, times) = bounds(None, at)
    span = open_archive(root).span
    wholes = _until(read(root, "keyframe", markets=market, holes="allow").arrow, heights, times)
    if not wholes:
        raise HolesError(f"no whole book of {market} is in this archive before {at}")
    whole = max(wholes, key=lambda row: (row["height"] or 0, row["sequence"]))
    first = part_of(whole["height"] or 0, span).first
    changes = read(root, "book", markets=market, start=first, holes="allow").arrow
    return _applied(market, whole, _until(changes, heights, times))


def _until(
    table: pa.Table, heights: tuple[int, int] | None, times: tuple[int, int] | None
) -> list[dict[str, Any]]:
    """Return the rows of a table up to a bound; a keyframe without an instant by its height."""
    # Python's datetimes have no nanoseconds.
    rows: list[dict[str, Any]] = table.select(_OF_BOOKS).to_pylist()
    if heights is not None:
        return [row for row in rows if (row["height"] or 0) <= heights[1]]
    if times is not None:
        instants = table["ts_event"].cast(pa.int64()).to_pylist()
        return [row for row, ts in zip(rows, instants, strict=True) if ts is None or ts <= times[1]]
    return rows


def _applied(market: str, whole: dict[str, Any], changes: list[dict[str, Any]]) -> BookAt:
    sides: dict[str, dict[Any, Any]] = {"bids": {}, "asks": {}}
    for side, found in sides.items():
        found.update((level["price"], level["quantity"]) for level in whole[side])
    height, sequence = whole["height"] or 0, whole["sequence"]
    for row in sorted(changes, key=lambda row: int(row["sequence"])):
        if row["sequence"] <= sequence:
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
