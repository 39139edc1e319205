"""A disk that is full to the last byte: pruning makes room on it, and a kill while it does loses nothing."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.archive.reading.tables import read
from collector.archive.storage import layout, manifest
from collector.archive.storage.files import sealing
from collector.archive.storage.recovery import recover
from tests.collector.archive.maintenance.test_maintenance import check, names, tidy
from tests.collector.archive.written import SPAN, sealed

_FIRST, _LAST = 100, 139
_PAGE = 4_096
_ALL = ("prune", "--max-size", "0.001MB", "--yes")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """An archive of four parts on a disk of its own, which is then filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        sealed(disk / "archive", _FIRST, _LAST)
        _fill(disk)
        yield disk / "archive"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def _fill(disk: Path) -> None:
    """Leave no room, not even behind the manifest's last line, where its page is not full yet."""
    with (disk / "archive" / layout.MANIFEST).open("ab") as file:
        file.write(b"x" * (_PAGE - file.tell() % _PAGE - 1) + b"\n")
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * _PAGE):
            pass
    assert os.statvfs(disk).f_bavail == 0


def _parts(root: Path) -> set[int]:
    return {file.first for file in manifest.current(manifest.read(root)).values()}


def test_it_makes_room(root: Path) -> None:
    done = tidy(root, *_ALL)
    assert (done.returncode, done.stderr) == (0, "")
    assert not names(root)
    asked = read(root, "trades", start=_FIRST, end=_LAST, holes="allow")
    assert (asked.pruned, asked.holes) == ([(_FIRST, _LAST)], {})
    assert os.statvfs(root).f_bavail > 0
    check(root)


@pytest.mark.parametrize(
    "point", ["prune.marked", "prune.emptied", "manifest.torn", "prune.removed"]
)
def test_a_kill_there_is_mended_by_whoever_comes_next(root: Path, point: str) -> None:
    tidy(root, *_ALL, crash_at=point)
    with sealing(root):
        recover(root)
    assert _FIRST not in _parts(root)
    assert names(root) == set(manifest.current(manifest.read(root)))
    check(root)
    rows = read(root, "trades", start=_FIRST + SPAN, holes="raise")
    assert len(rows) == 2 * (_LAST - _FIRST - SPAN + 1)


def test_what_was_left_half_written_makes_room(root: Path) -> None:
    """A seal that failed for want of room leaves such a file; there may be no room for its folder."""
    folder = next(path for path in root.glob("channel=trades/date=*"))
    (folder / f"part-000000000200-000000000209.parquet{layout.PARTIAL}").write_bytes(b"")
    assert tidy(root, *_ALL).returncode == 0
    assert not names(root)
