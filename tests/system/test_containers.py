"""What a test that was stuck leaves behind: its containers end when the next test needs some."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.containers import podman

_OWNER = """
import sys
from tests.system.containers import podman
with podman() as found:
    print(found.environment["CONTAINERS_CONF"], flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_only_the_containers_of_a_process_that_ended_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    try:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip()).parent
        assert folder.is_relative_to(tmp_path)
        with podman():
            assert folder.exists(), "its process lives"
        # As the watch over stuck tests ends a process: nothing is cleaned up.
        owner.send_signal(signal.SIGKILL)
        owner.wait(90)
        assert folder.exists()
        with podman():
            assert not folder.exists()
    finally:
        owner.kill()
        owner.communicate()
    assert list(tmp_path.iterdir()) == []
