"""What files of coverage say is remembered; what was changed, removed or replaced is read again."""

from pathlib import Path

import pytest

from collector.archive.maintenance import compaction, pruning
from collector.archive.reading import holes
from collector.archive.reading.tables import Table, read
from collector.archive.storage import layout, manifest
from collector.archive.storage.layout import Part
from collector.archive.storage.part_file import read_file
from shards.protocol.errors import ConfigError
from shards.protocol.ranges import RangeList
from tests.collector.archive.maintenance.test_maintenance import added_to
from tests.collector.archive.written import DAY, SYMBOL, sealed


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Forget what earlier tests read; return the files of coverage that are opened from now on."""
    found: list[str] = []

    def noted(root: Path, file: manifest.File, *columns: list[str]) -> object:
        found.append(layout.range_of(file.path).stem)
        return read_file(root, file, *columns)

    monkeypatch.setattr(holes, "read_file", noted)
    monkeypatch.setattr(holes, "_known", {})
    return found


def _said(root: Path) -> tuple[dict[str, RangeList], RangeList, int]:
    found: Table = read(root, "book", start=101, end=139, holes="allow")
    return found.holes, found.pruned, found.through


def _parts(*firsts: int) -> list[str]:
    return [Part(first, first + 9).stem for first in firsts]


def test_coverage_is_opened_once(tmp_path: Path, opened: list[str]) -> None:
    sealed(tmp_path, 100, 129)
    first = _said(tmp_path)
    assert opened == _parts(100, 110, 120)
    assert _said(tmp_path) == first
    assert opened == _parts(100, 110, 120)


def test_pruned_and_compacted_parts_are_as_a_new_process_reads_them(
    tmp_path: Path, opened: list[str]
) -> None:
    added_to(tmp_path)
    before = _said(tmp_path)
    assert before[0] == {}
    compaction.compact(tmp_path, ts=DAY)
    assert _said(tmp_path) == before
    pruning.prune(tmp_path, [Part(100, 109)], ts=DAY)
    found = _said(tmp_path)
    assert found == ({}, [(101, 109)], 139)
    holes._known.clear()
    assert _said(tmp_path) == found
    assert opened[-3:] == _parts(110, 120, 130)


def test_a_file_that_another_replaced_is_read_again(tmp_path: Path, opened: list[str]) -> None:
    sealed(tmp_path, 100, 109)
    (file,) = tmp_path.glob("coverage/*/*.parquet")
    assert _said(tmp_path)[0] == {}
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(ConfigError, match="a file that the manifest names is missing"):
        read(tmp_path, "book")
    file.write_bytes(content[:-9])
    with pytest.raises(ConfigError, match=f"{file.name}: cannot be read"):
        read(tmp_path, "book")
    file.write_bytes(content)
    assert _said(tmp_path)[0] == {}
    assert opened == _parts(100, 100, 100)


def test_memory_is_bounded(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holes, "_MOST", 2)
    sealed(tmp_path, 100, 149)
    first = _said(tmp_path)
    assert len(holes._known) == 3
    opened.clear()
    assert _said(tmp_path) == first
    # The oldest stay known.
    assert opened == _parts(120, 130, 140)
    assert [part.market for part in next(iter(holes._known.values()))] == [SYMBOL]
