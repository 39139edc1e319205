"""Children forked from the template, in a process of their own: this one has threads."""

import json
import subprocess
import sys
import threading
from typing import Any

import psutil
import pytest

from collector.control.template import Template
from shards.adapters import registry
from shards.runtime.exit_codes import EXIT_CONFIG
from tests.collector import children
from tests.system.running import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are spawned elsewhere")


def _run(task: str, code: int = 0) -> tuple[list[dict[str, Any]], str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.collector.control.forking", task],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_a_child_is_ours_and_has_what_was_imported() -> None:
    (by_child, by_us), _ = _run("child")
    assert by_child["config"] == "as told"
    assert by_child["code"] == "StatusCode.UNAVAILABLE", "gRPC works in it"
    assert by_child["parent"] == by_us["pid"]
    assert by_us == {"pid": by_us["pid"], "exit": 0, "beat": 7.0, "threads": 1}


@pytest.mark.parametrize("source", registry.names())
def test_what_the_template_imports_by_name_exists(source: str) -> None:
    # A renamed module would cost each child its import, after one traceback at the start.
    registry.adapter(source).preload()


def test_exit_codes_are_the_kernels() -> None:
    [codes], said = _run("ends")
    assert codes == {"well": 0, "configuration": EXIT_CONFIG, "bug": 1, "kill": -9}
    assert said.count("ZeroDivisionError: a bug") == 1


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_without_the_template_children_go_on_and_are_replaced(how: str) -> None:
    [found], said = _run(how)
    assert found == {"lived": True, "ended": "killed by SIGKILL", "is_ours": True}
    assert "is gone or stuck" in said


def test_who_dies_leaves_neither_template_nor_child() -> None:
    [found], _ = _run("die", code=-9)
    eventually(
        lambda: not any(psutil.pid_exists(pid) for pid in found["pids"]),
        within_s=30,
        what="no process left",
    )


def test_a_process_with_threads_is_not_forked() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    template = Template(lambda: None)
    try:
        assert not template.pid
        process, _ = template.launch("shard 0", children.well, None)
        psutil.Process(process.pid).kill()
        process.join(90)
        assert process.exitcode == -9
        process.close()
    finally:
        done.set()
        other.join()
        template.close()
