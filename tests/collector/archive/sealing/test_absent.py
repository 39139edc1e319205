"""A market that is removed for a while: the archive says for which blocks it was not collected."""

from pathlib import Path
from typing import Any

import pytest

from collector.archive.journal.ledger import Ledger
from collector.archive.journal.segment_file import Note
from collector.archive.reading.overview import overview
from collector.archive.reading.tables import HolesWarning, read
from collector.archive.sealing import seal
from collector.archive.storage import layout
from shards.protocol.ranges import RangeList
from tests.collector.archive import written
from tests.collector.archive.written import DAY, SPAN, SYMBOL, entry, trades

REMOVED = Note("removed", SYMBOL, 104, 0)
AGAIN = Note("again", SYMBOL, 113, 113)
REPLAYED = Note("replayed", SYMBOL, 104, 112)


def _sealed(root: Path, notes: list[Note]) -> list[dict[str, Any]]:
    """Seal two parts with these notes; return the coverage of each."""
    written.write(root, [entry("trades", trades(h)) for h in (101, 102, 103)], notes, begin=101)
    for first in (100, 110):
        seal.seal(root, layout.part_of(first, SPAN), ts=DAY)
    rows: list[dict[str, Any]] = read(root, "coverage", holes="allow").arrow.to_pylist()
    return rows


@pytest.mark.parametrize(
    ("notes", "due"),
    [
        ([REMOVED], [(101, 103, 3, 0)]),
        ([REMOVED, AGAIN], [(101, 103, 3, 0), (113, 119, 7, 0)]),
        ([REMOVED, AGAIN, REPLAYED], [(101, 109, 9, 0), (110, 119, 10, 0)]),
        ([REMOVED, Note("again", SYMBOL, 107, 107)], [(101, 109, 9, 3), (110, 119, 10, 0)]),
    ],
)
def test_blocks_that_were_not_collected_are_not_called_whole(
    tmp_path: Path, notes: list[Note], due: list[tuple[int, int, int, int]]
) -> None:
    names = ("first_height", "last_height", "due", "missing")
    rows = _sealed(tmp_path / "archive", notes)
    assert [tuple(row[name] for name in names) for row in rows] == due


def test_between_its_collections_it_is_missing(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    _sealed(root, [REMOVED, AGAIN])
    assert overview(root).holes == {SYMBOL: [(104, 112)]}
    with pytest.warns(HolesWarning, match="heights 104-112 of INJ-USDT are missing"):
        read(root, "trades")


def _missing(ledger: Ledger) -> tuple[RangeList, RangeList]:
    return ledger.due(SYMBOL, 100, 119), ledger.missing(SYMBOL, 100, 119)


@pytest.mark.parametrize("notes", [[REMOVED], [REMOVED, AGAIN], [REMOVED, AGAIN, REPLAYED]])
def test_a_new_segment_knows_it_too(notes: list[Note]) -> None:
    ledger, later = Ledger(), Ledger()
    ledger.fold([Note("start", SYMBOL, 101, 101), *notes])
    later.fold(ledger.notes())
    assert _missing(later) == _missing(ledger)
