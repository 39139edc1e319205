"""`collector start --record`: a child like the others, whose state everybody can see."""

import contextlib
import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.archive.reading.tables import read
from tests.make_reference import documented
from tests.system.running import Devnet, Running, collector, eventually, free_port_pair

pytestmark = pytest.mark.node


@contextlib.contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of a few megabytes, as root may."""
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def _recorder(running: Running) -> dict[str, Any]:
    found: dict[str, Any] = running.peek().get("recorder") or {}
    return found


def _ready(port: int) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, str(json.load(error)["reason"])


def test_a_killed_recorder_comes_back_and_a_full_disk_only_pauses_it(
    node: Devnet, tmp_path: Path
) -> None:
    port = free_port_pair()
    with _small_disk(tmp_path / "disk", "3m") as disk:
        options = ["--config", str(node.config(tmp_path)), "--record", str(disk / "archive")]
        with collector(tmp_path, *options, "--http", f"127.0.0.1:{port}") as running:
            running.await_live()
            eventually(lambda: _recorder(running).get("state") == "recording", within_s=20)
            os.kill(running.pid("record"), signal.SIGKILL)
            before = _recorder(running)["pid"]
            eventually(
                lambda: (
                    _recorder(running).get("pid") not in (0, before)
                    and _recorder(running)["state"] == "recording"
                ),
                within_s=30,
            )
            assert _ready(port)[0] == 200
            page = {row.name for row in documented() if "_recorder_" in row.name}
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                served = set(
                    re.findall(r"^(collector_recorder_\w+) ", answer.read().decode(), re.M)
                )
            assert served == page != set()
            ballast = disk / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(b"0" * 4096)
            eventually(lambda: _recorder(running).get("state") == "full", within_s=60)
            eventually(lambda: _ready(port)[0] == 503, within_s=10)
            assert "No space left" in _ready(port)[1]
            ballast.unlink()
            eventually(lambda: _recorder(running).get("state") == "recording", within_s=30)
            eventually(lambda: _ready(port)[0] == 200, within_s=10)
            through = running.status()["blocks"]["head"]
            eventually(
                lambda: (
                    _recorder(running)["complete"] >= through and not _recorder(running)["to_fetch"]
                ),
                within_s=60,
            )
        table = read(disk / "archive", "book", holes="raise").arrow
        for market in set(table["market"].to_pylist()):
            of_market = read(disk / "archive", "book", markets=market).arrow["sequence"].to_pylist()
            assert of_market == list(range(of_market[0], of_market[-1] + 1))
