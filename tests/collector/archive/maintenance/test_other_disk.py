"""An archive whose older data lies on another disk, behind links: nothing gets stuck there."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.archive.reading.tables import read
from collector.archive.storage import layout, manifest
from collector.archive.storage.files import sealing
from collector.archive.storage.recovery import recover
from tests.collector.archive.maintenance.test_maintenance import (
    added_to,
    check,
    digests,
    facts,
    names,
    tidy,
)
from tests.collector.archive.written import sealed

_MEMORY = Path("/dev/shm")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Make a folder on another file system than the other test files."""
    if not _MEMORY.is_dir() or _MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no other file system is here")
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        yield Path(folder)


def _moved(folder: Path, disk: Path) -> None:
    """Move a folder to the other disk, and put a link into its place."""
    shutil.move(folder, disk / folder.name)
    folder.symlink_to(disk / folder.name)


@pytest.mark.parametrize("moved", ["channel=trades", "channel=trades/date=2026-11-27"])
@pytest.mark.parametrize("crash_at", ["", "compact.named", "seal.renamed:3", "compact.swapped"])
def test_it_is_compacted(tmp_path: Path, disk: Path, moved: str, crash_at: str) -> None:
    root, missed_nothing = tmp_path / "archive", tmp_path / "whole"
    sealed(missed_nothing, 101, 139)
    added_to(root)
    before = facts(root)
    _moved(root / moved, disk)
    if crash_at:
        tidy(root, "compact", crash_at=crash_at)
        assert facts(root) == before
    done = tidy(root, "compact")
    assert done.returncode == 0, done.stderr
    assert facts(root) == before
    assert digests(root) == digests(missed_nothing)
    assert names(root) == set(manifest.current(manifest.read(root)))
    assert (root / moved).is_symlink()
    check(root)


def test_a_file_that_was_not_finished_is_set_aside(tmp_path: Path, disk: Path) -> None:
    """As a recorder that is killed while it seals leaves one: the next one has to start."""
    root = tmp_path / "archive"
    sealed(root, 101, 119)
    _moved(root / "channel=trades", disk)
    [folder] = {path.parent for path in root.glob("channel=trades/date=2026-11-27/*")}
    (folder / f"part-000000000120-000000000129.parquet{layout.PARTIAL}").write_bytes(b"half")
    with sealing(root):
        recover(root)
    assert names(root) == set(manifest.current(manifest.read(root)))
    [aside] = (root / layout.QUARANTINE).iterdir()
    assert aside.read_bytes() == b"half"
    assert len(read(root, "trades", holes="raise")) == 38
