"""An archive whose folder is moved while it is recorded: its recorder ends, and another one goes on."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.archive.journal import segment_file
from collector.archive.reading.tables import read
from tests.system.recorders import busy_collector, ended, record, sealed_through, status_of, stop
from tests.system.running import Running, eventually

SPAN = 20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with busy_collector(tmp_path_factory.mktemp("collector"), markets=2) as collecting:
        yield collecting


def _ended(recorder: "subprocess.Popen[bytes]", log: Path) -> str:
    assert recorder.wait(60) == 3, log.read_text()
    lines = log.read_text().splitlines()
    assert "Traceback" not in lines[-1]
    return lines[-1]


@contextlib.contextmanager
def _recording(root: Path, running: Running) -> Iterator["subprocess.Popen[bytes]"]:
    with ended(record(root, running.publish, span=SPAN)) as recorder:
        eventually(lambda: status_of(root).get("state") == "recording", within_s=60)
        yield recorder


def test_a_moved_archive_is_whole_once_it_is_recorded_where_it_is(
    running: Running, tmp_path: Path
) -> None:
    root, moved = tmp_path / "archive", tmp_path / "moved"
    with _recording(root, running) as recorder:
        root.rename(moved)
        said = _ended(recorder, tmp_path / "record.log")
    assert said.startswith(f"collector record: {root}: was moved or removed while it was recorded")
    assert not root.exists()
    through = status_of(moved)["head"] + SPAN
    with _recording(moved, running) as recorder:
        eventually(lambda: sealed_through(moved) >= through, within_s=60)
        stop(recorder)
    assert len(read(moved, "book", end=through, holes="raise"))


def test_the_recorder_of_a_moved_archive_does_not_write_into_the_next_one(
    running: Running, tmp_path: Path
) -> None:
    root = tmp_path / "archive"
    with _recording(root, running) as first:
        begun = status_of(root)["head"]
        root.rename(tmp_path / "moved")
        with _recording(root, running) as second:
            assert first.wait(60) == 3
            eventually(lambda: sealed_through(root) > begun + SPAN, within_s=60)
            stop(second)
    heights = [
        entry.height
        for path in segment_file.segments(root)
        for chunk in segment_file.read(path)
        for entry in chunk.entries
    ]
    assert min(heights) > begun
    assert not read(root, "book", holes="raise").holes
