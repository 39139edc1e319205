"""A command whose child hangs, or is ended by something else than itself."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from collector.cluster.folder import HostFolder
from collector.cluster.processes import save
from collector.cluster.ray_node import RayNode
from tests.collector.cluster.heads import head
from tests.system.running import run

_COMMAND = """
import os, signal, sys, time
from collector.cluster import attempt
from shards.protocol.errors import ConfigError
parent = os.getpid()
try:
    attempt.go_on_in_child(float(sys.argv[1]))
except ConfigError as error:
    sys.exit(f"{error}; by itself: {os.getpid() == parent}")
print("in a child:", os.getpid() != parent)
exec(sys.argv[2])
"""


def ran(within_s: float, then: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", _COMMAND, str(within_s), then]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("code", [0, 1, 4])
def test_the_exit_code_of_the_child_is_that_of_the_command(code: int) -> None:
    done = ran(60, f"sys.exit({code})")
    assert (done.returncode, done.stdout, done.stderr) == (code, "in a child: True\n", "")


@pytest.mark.parametrize("how", ["os._exit(1)", "os.kill(os.getpid(), signal.SIGABRT)"])
def test_a_child_that_is_ended_from_outside_gets_a_sentence(how: str) -> None:
    done = ran(60, f"sys.stdout.flush(); {how}")
    assert done.returncode == 1
    assert "Ray runs on this host but does not work: it ended the process" in done.stderr
    assert "by itself: True" in done.stderr


def test_a_child_that_hangs_is_ended_in_time() -> None:
    began = time.monotonic()
    done = ran(0.5, "time.sleep(600)")
    assert time.monotonic() - began < 50
    assert done.returncode == 1
    assert "it did not answer within 0.5 s" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("status",), ("scale", "--parts", "2"), ("up", "--insecure"), ("down",)]
)
def test_every_command_says_that_ray_has_ended_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Where Ray runs only in part, it ends the process that asks, after its own time."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/__init__.py").write_text("import os\n\ndef init(**_):\n    os._exit(1)\n")
    paths = (str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    here = HostFolder(tmp_path / "here")
    here.path.mkdir()
    with head(None) as address:
        node = RayNode(address=address, host="127.0.0.1", room=0, token="", is_ours=False)
        save(here.ray, node)
        done = run("cluster", *arguments, "--folder", str(here.path))
    assert done.returncode == 3, done.stderr
    assert "it ended the process that asked, with exit code 1" in done.stderr
    assert done.stderr.count("\n") == 1
    assert ("'down --here' ends those of this host" in done.stderr) == (arguments == ("down",))
