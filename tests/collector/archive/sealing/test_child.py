"""How the child that seals is started, and what becomes of a recorder that cannot start it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from collector.archive.journal.segment_file import Chunk, Writer
from collector.archive.reading.tables import read
from collector.archive.sealing.child import SealedParts
from collector.archive.storage import manifest
from collector.archive.storage.layout import Part
from tests.collector.archive.written import SPAN, change, entry, trades, write
from tests.system.running import eventually


def _seal(root: Path) -> bool:
    return asyncio.run(SealedParts(root, SPAN).seal(Part(100, 109)))


def test_without_a_process_left_the_part_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    assert _seal(tmp_path) is False
    assert "seal cannot be started" in caplog.text


def test_a_child_whose_recorder_has_died_leaves_the_part_to_the_next_one(tmp_path: Path) -> None:
    made = [entry("book", change(height)) for height in range(100, 110)]
    write(tmp_path, made, begin=100)
    for recorder, parts in ((1, 0), (os.getpid(), 1)):
        command = [sys.executable, "-m", "collector.archive.sealing.seal", str(tmp_path), "100"]
        subprocess.run([*command, str(recorder)], check=True, timeout=60)
        assert len(manifest.sealed(manifest.read(tmp_path))) == parts


def test_the_child_yields_to_a_recorder_that_yields_itself(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    # It waits until its priority has changed, then says what it is.
    probe.write_text(
        f"#!/bin/sh\nwhile [ $(nice) = 12 ]; do sleep 0.02; done\nnice >{tmp_path}/seen\n"
    )
    probe.chmod(0o755)
    script = (
        "import os, sys; from pathlib import Path; from tests.collector.archive.sealing import test_child\n"
        "os.nice(12 - os.nice(0)); sys.executable = sys.argv[1]\n"
        "test_child._seal(Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", script, str(probe), str(tmp_path)]
    subprocess.run(command, check=True, timeout=90)
    assert (tmp_path / "seen").read_text() == "19\n"


def _slow(folder: Path) -> str:
    """Make an interpreter that ends its program only once it may: `slow_go` is there then."""
    script = folder / "slow"
    # The program is told that this shell is its recorder.
    script.write_text(
        f'#!/bin/sh\n"{sys.executable}" "$1" "$2" "$3" "$4" $$\ncode=$?\ntouch "{folder}/slow_done"\n'
        f'while [ ! -e "{folder}/slow_go" ]; do sleep 0.02; done\nexit $code\n'
    )
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize("does", ["seal", "add"])
async def test_what_comes_while_a_part_is_sealed_or_added_to_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    """A market may lag by a part, and go on while that part is made without it."""
    root, part = tmp_path / "archive", Part(100, 109)
    write(root, [entry("book", change(height)) for height in range(101, 110)], begin=101)
    sealed, writer = SealedParts(root, SPAN), Writer(root)

    def come(height: int) -> None:
        writer.append(Chunk([entry("trades", trades(height))]))
        sealed.note_late([height])

    if does == "add":
        assert await sealed.seal(part)
        come(104)
    monkeypatch.setattr(sys, "executable", _slow(tmp_path))
    at_work = asyncio.create_task(getattr(sealed, does)(part))
    await asyncio.to_thread(eventually, (tmp_path / "slow_done").exists, within_s=60)
    come(105)
    (tmp_path / "slow_go").touch()
    assert await at_work
    assert sealed.late == {part}
    assert await sealed.add(part)
    assert not sealed.late
    writer.close()
    heights = read(root, "trades", holes="raise").arrow["height"].to_pylist()
    assert heights == [h for h in range(104 if does == "add" else 105, 106) for _ in range(2)]


async def test_what_comes_while_sealing_fails_is_sealed_by_the_next_attempt(tmp_path: Path) -> None:
    root, part = tmp_path / "archive", Part(100, 109)
    write(root, [entry("book", change(height)) for height in range(101, 110)], begin=101)
    sealed, writer = SealedParts(root, SPAN), Writer(root)
    blocked = root / "coverage"
    blocked.touch()
    at_work = asyncio.create_task(sealed.seal(part))
    await asyncio.sleep(0)
    writer.append(Chunk([entry("trades", trades(105))]))
    sealed.note_late([105])
    assert not await at_work
    assert not sealed.late
    blocked.unlink()
    assert await sealed.seal(part)
    writer.close()
    assert len(read(root, "trades", holes="raise")) == 2
