"""A sealed file that a disk or somebody has changed: refused by name, never read as other facts."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collector.archive.journal import segment_file
from collector.archive.reading.tables import read
from collector.archive.storage import manifest, part_file
from collector.archive.storage.manifest import File
from collector.archive.storage.part_file import read_file
from shards.protocol.errors import ConfigError
from tests.collector.archive.written import sealed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "archive"
    sealed(made, 100, 119)
    return made


def _files(root: Path) -> Iterator[File]:
    yield from manifest.current(manifest.read(root)).values()


def _read_or_refused(root: Path, file: File) -> pa.Table | str:
    try:
        return read_file(root, file, is_alone=True)
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize("way", ["one thread", "threads", "steps"])
def test_no_flipped_bit_is_read_as_another_fact(
    root: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    chance = random.Random(1)
    monkeypatch.setattr(part_file, "_FEWER", 1_000 if way == "one thread" else 0)
    monkeypatch.setattr(part_file, "_FRESH", 1 << 62 if way == "steps" else 0)
    monkeypatch.setattr(part_file, "_STEP", 3)
    for file in _files(root):
        path = root / file.path
        whole, held = path.read_bytes(), read_file(root, file)
        for _ in range(30):
            changed = bytearray(whole)
            at = chance.randrange(len(whole))
            changed[at] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
            found = _read_or_refused(root, file)
            assert isinstance(found, str) or found.equals(held), f"byte {at} of {file.path}"
            assert not isinstance(found, str) or found.startswith(f"{path}: cannot be read")
        path.write_bytes(whole)


def test_the_first_read_of_a_process_is_in_steps_and_equals_later_ones(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_file, "_FEWER", 0)
    monkeypatch.setattr(part_file, "_STEP", 3)
    for file in _files(root):
        monkeypatch.setattr(part_file, "_FRESH", 0)
        later = read_file(root, file, is_alone=True)
        monkeypatch.setattr(part_file, "_FRESH", 1 << 62)
        first = read_file(root, file, is_alone=True)
        assert first.schema.equals(later.schema)
        assert first.equals(later)
        assert (first["market"].num_chunks, later["market"].num_chunks) == (-(-file.rows // 3), 1)


def test_a_file_cut_off_anywhere_is_refused_by_name(root: Path) -> None:
    file = next(_files(root))
    whole = (root / file.path).read_bytes()
    for size in (0, 3, 8, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        (root / file.path).write_bytes(whole[:size])
        with pytest.raises(ConfigError, match=r"part-.*\.parquet: cannot be read: .*copy"):
            read_file(root, file)


def test_a_file_with_another_number_of_rows_than_the_manifest_says_is_refused(root: Path) -> None:
    file = next(f for f in _files(root) if f.channel == "trades")
    pq.write_table(read_file(root, file).slice(1), root / file.path)
    with pytest.raises(ConfigError, match=rf"{file.rows - 1} rows, where the manifest has"):
        read_file(root, file)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": [1]}, "no column market_id of .*: there is none"),
        ({"market_id": [1.5]}, "no column market_id of .*: there is one of double"),
    ],
)
def test_a_file_of_other_columns_is_refused(
    root: Path, columns: dict[str, list[float]], said: str
) -> None:
    file = next(f for f in _files(root) if f.channel == "trades")
    pq.write_table(pa.table(columns), root / file.path)
    with pytest.raises(ConfigError, match=said):
        read(root, "trades")


def test_commands_say_which_file_it_is_and_end_with_3(root: Path) -> None:
    file = next(f for f in _files(root) if f.channel == "coverage")
    (root / file.path).write_bytes(b"PAR1 of another")
    command = [sys.executable, "-m", "collector", "archive", "coverage", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert done.stderr.count("\n") == 1
    assert f"{root / file.path}: cannot be read" in done.stderr


def test_late_facts_of_a_damaged_part_wait_in_the_journal(root: Path) -> None:
    file = next(f for f in _files(root) if f.channel == "trades" and f.first == 100)
    path = root / file.path
    path.write_bytes(path.read_bytes()[:-1])
    command = [sys.executable, "-m", "collector.archive.sealing.additions", str(root), "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{path}: cannot be read")
    assert "Traceback" not in done.stderr
    assert segment_file.segments(root)
