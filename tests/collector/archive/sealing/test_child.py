"""How the child that seals is started, and what becomes of a recorder that cannot start it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from collector.archive.sealing.child import SealedParts
from collector.archive.storage import manifest
from collector.archive.storage.layout import Part
from tests.collector.archive.written import SPAN, change, entry, write


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
