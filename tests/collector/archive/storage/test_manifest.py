"""The manifest: a line is there whole or not at all."""

from pathlib import Path

import pytest

from collector.archive.maintenance.pruning import prune
from collector.archive.storage import layout, manifest
from collector.archive.storage.files import open_archive
from collector.archive.storage.manifest import File, Line


def _line(
    first: int, *, act: str = "seal", paths: tuple[str, ...] = (), removed: tuple[str, ...] = ()
) -> Line:
    files = [
        File(
            path=path,
            channel="book",
            date="2026-11-28",
            first=first,
            last=first + 9,
            rows=1,
            bytes=1,
            file_sha256="0",
        )
        for path in paths
    ]
    return Line(act=act, first=first, last=first + 9, files=files, removed=list(removed))


def test_a_line_cut_short_is_none_and_the_next_writer_goes_on(tmp_path: Path) -> None:
    manifest.append(tmp_path, _line(0, paths=("a",)))
    path = tmp_path / layout.MANIFEST
    whole = path.read_bytes()
    manifest.append(tmp_path, _line(10, paths=("b",)))
    both = path.read_bytes()
    for cut in range(len(whole), len(both) - 1):
        path.write_bytes(both[:cut])
        assert [line.first for line in manifest.read(tmp_path)] == [0]
        manifest.append(tmp_path, _line(20))
        assert [line.first for line in manifest.read(tmp_path)] == [0, 20]


def test_the_files_of_an_archive_are_those_that_no_later_line_removed(tmp_path: Path) -> None:
    lines = [
        _line(0, paths=("a", "b")),
        _line(10, paths=("c",)),
        _line(0, act="compact", paths=("d",), removed=("a", "b")),
    ]
    for line in lines:
        manifest.append(tmp_path, line)
    assert set(manifest.current(manifest.read(tmp_path))) == {"c", "d"}
    assert manifest.sealed(manifest.read(tmp_path)) == {layout.Part(0, 9), layout.Part(10, 19)}


@pytest.mark.parametrize("path", ["/etc/hostname", "../beside", "channel=book/../../beside", ""])
def test_a_line_whose_paths_lead_out_of_the_archive_does_not_count(
    tmp_path: Path, path: str
) -> None:
    """An archive may come from others, and pruning removes what its lines name."""
    manifest.append(tmp_path, _line(0, paths=("a",)))
    manifest.append(tmp_path, _line(10, paths=(path,)))
    manifest.append(tmp_path, _line(20, removed=(path,)))
    line = _line(30, paths=("d",))
    line.files[0].date = "../../.."
    manifest.append(tmp_path, line)
    assert set(manifest.current(manifest.read(tmp_path))) == {"a"}


def test_pruning_removes_nothing_outside(tmp_path: Path) -> None:
    root, beside = tmp_path / "archive", tmp_path / "beside"
    open_archive(root, create=True)
    beside.write_text("mine")
    manifest.append(root, _line(0, paths=("../beside", str(beside))))
    prune(root, [layout.Part(0, 9)], ts=1)
    assert beside.read_text() == "mine"
