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
    """What the status says of it; a state of its own while there is no answer."""
    found: dict[str, Any] = running.peek().get("recorder") or {"state": "unknown", "pid": 0}
    return found


def _ready(port: int) -> tuple[int, str]:
    """The answer of `/readyz` and its reason; 0 while there is no answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=20) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, str(json.load(error)["reason"])
    except OSError:
        return 0, ""


def _served(port: int) -> set[str]:
    """The metrics of a recorder that are served now; what is served may be a second old."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            body = answer.read().decode()
    except OSError:
        return set()
    return set(re.findall(r"^(collector_recorder_\w+) ", body, re.M))


def _recording(running: Running, but: int) -> dict[str, Any]:
    """What the status says of a recorder that records, if it is another than this process."""
    found = _recorder(running)
    return found if found["state"] == "recording" and found["pid"] not in (0, but) else {}


def _is_full(running: Running, but: int) -> bool:
    found = _recorder(running)
    return found["state"] == "full" and found["pid"] not in (0, but)


def _is_whole(running: Running, through: int) -> bool:
    found = _recorder(running)
    return found.get("complete", 0) >= through and not found["to_fetch"]


def test_a_killed_recorder_comes_back_and_a_full_disk_only_pauses_it(
    node: Devnet, tmp_path: Path
) -> None:
    port = free_port_pair()
    with _small_disk(tmp_path / "disk", "3m") as disk:
        options = ["--config", str(node.config(tmp_path)), "--record", str(disk / "archive")]
        with collector(tmp_path, *options, "--http", f"127.0.0.1:{port}") as running:
            running.await_live()
            recording = eventually(lambda: _recording(running, 0), within_s=60)
            before = recording["pid"]
            os.kill(before, signal.SIGKILL)
            eventually(lambda: _recording(running, before), within_s=60)
            eventually(lambda: _ready(port)[0] == 200, within_s=30)
            page = {row.name for row in documented() if "_recorder_" in row.name}
            assert page
            eventually(
                lambda: _served(port) == page, within_s=30, what=lambda: page ^ _served(port)
            )
            ballast = disk / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(b"0" * 4096)
            eventually(lambda: _recorder(running)["state"] == "full", within_s=60)
            eventually(lambda: "No space left" in _ready(port)[1], within_s=30)
            assert _ready(port)[0] == 503
            # One that starts while the disk is full waits as well.
            before = eventually(lambda: _recorder(running)["pid"], within_s=30)
            os.kill(before, signal.SIGKILL)
            eventually(lambda: _is_full(running, before), within_s=60)
            ballast.unlink()
            eventually(lambda: _recorder(running)["state"] == "recording", within_s=30)
            eventually(lambda: _ready(port)[0] == 200, within_s=30)
            through = running.status()["blocks"]["head"]
            eventually(lambda: _is_whole(running, through), within_s=60)
        table = read(disk / "archive", "book", holes="raise").arrow
        for market in set(table["market"].to_pylist()):
            of_market = read(disk / "archive", "book", markets=market).arrow["sequence"].to_pylist()
            assert of_market == list(range(of_market[0], of_market[-1] + 1))
