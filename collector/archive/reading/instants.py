"""Which heights lie between two instants, by the rows that have both."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from collector.archive.reading.bounds import EVER
from collector.archive.storage import layout
from collector.archive.storage.manifest import File
from collector.archive.storage.part_file import read_file
from collector.tables.arrow import nanoseconds

DATED: Final = ("blocks", "book", "trades")
"""Channels whose rows tell when a block was."""
_COLUMNS: Final = ["height", "ts_event"]


def heights_between(
    root: Path, files: Iterable[File], unsealed: pa.Table | None, times: tuple[int, int]
) -> tuple[int, int]:
    """
    Return the heights that may lie between two instants in ns, the second not included.

    They begin after the newest block that is known to be earlier, at 0 without any, and end before
    the first that is known to be later: of a lost block only its neighbours' times are known.
    """
    dated = [file for file in files if file.channel in DATED]
    return _before(root, dated, unsealed, times[0]) + 1, _after(root, dated, unsealed, times[1]) - 1


def _before(root: Path, files: list[File], unsealed: pa.Table | None, since: int) -> int:
    """Return the newest height before an instant; -1 without any."""
    early = [file for file in files if file.date <= layout.date_of(since)]
    for part in _parts(root, early, unsealed, is_newest=True):
        heights = part["height"].filter(pc.less(nanoseconds(part["ts_event"]), since))
        if (found := pc.max(heights).as_py()) is not None:
            return int(found)
    return -1


def _after(root: Path, files: list[File], unsealed: pa.Table | None, until: int) -> int:
    """Return the oldest height at an instant or after it; `EVER` without any."""
    late = [file for file in files if until < EVER and file.date >= layout.date_of(until)]
    for part in _parts(root, late, unsealed, is_newest=False):
        heights = part["height"].filter(pc.greater_equal(nanoseconds(part["ts_event"]), until))
        if (found := pc.min(heights).as_py()) is not None:
            return int(found)
    return EVER


def _parts(
    root: Path, files: list[File], unsealed: pa.Table | None, *, is_newest: bool
) -> Iterator[pa.Table]:
    """Yield the heights and instants of one part after the other, the newest or the oldest first."""
    tail = []
    if unsealed is not None and not {*_COLUMNS} - {*unsealed.column_names}:
        tail.append(unsealed.select(_COLUMNS))
    if is_newest:
        yield from tail
    for first in sorted({file.first for file in files}, reverse=is_newest):
        of_part = [file for file in files if file.first == first]
        yield pa.concat_tables([read_file(root, file, _COLUMNS) for file in of_part])
    if not is_newest:
        yield from tail
