"""A part's entries by topic: the same from memory as from the temporary file."""

from pathlib import Path

import msgspec
import pytest

from collector.archive.journal import spool
from collector.archive.journal.segment_file import Entry
from collector.archive.journal.spool import Spool
from collector.archive.sealing import seal
from collector.archive.storage import manifest
from collector.archive.storage.layout import part_of
from tests.collector.archive.written import DAY, SPAN, change, entry, trades, whole, write


def _made(topic: str, number: int) -> Entry:
    return Entry(topic, 1, number, bytes([number]) * 10)


@pytest.mark.parametrize("most", [1, 35, 1 << 20])
def test_entries_come_back_in_the_order_in_which_they_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(spool, "_MOST_BYTES", most)
    kept = Spool(tmp_path)
    for number in range(20):
        kept.add([_made("book.A.", number), _made("book.B.", number + 100)])
    kept.add([_made("trades.A.", 0)])
    assert kept.topics() == ["book.A.", "book.B.", "trades.A."]
    assert [entry.height for entry in kept.entries("book.A.")] == list(range(20))
    assert [entry.event[0] for entry in kept.entries("book.B.")] == list(range(100, 120))
    assert kept.entries("book.C.") == []
    kept.close()
    assert list(tmp_path.iterdir()) == []


def _sealed(root: Path) -> list[tuple[str, str, int, str]]:
    """Seal a part whose sixth block is the first one of a day."""
    made = [entry("book", whole(109))]
    for height in range(110, 120):
        event = change(height)
        when = event.ts_event + 2_500_000_000
        made.append(entry("book", msgspec.structs.replace(event, ts_event=when)))
        made.append(entry("trades", trades(height)))
    write(root, made, begin=110)
    seal.seal(root, part_of(110, SPAN), ts=DAY)
    files = manifest.current(manifest.read(root)).values()
    return sorted((f.channel, f.date, f.rows, f.file_sha256) for f in files)


def test_a_part_that_does_not_fit_into_memory_has_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _sealed(tmp_path / "all")
    assert [row[1:3] for row in found if row[0] == "book"] == [("2026-11-27", 5), ("2026-11-28", 5)]
    monkeypatch.setattr(spool, "_MOST_BYTES", 500)
    assert _sealed(tmp_path / "little") == found
