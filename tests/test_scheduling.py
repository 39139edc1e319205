"""How workers share tests, seen in a small suite of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import conftest, scheduling

_CONFTEST = """
import json, os, time
import pytest
from tests.scheduling import *

@pytest.fixture(scope="session")
def node():
    return os.getpid()

@pytest.fixture(autouse=True)
def noted(request):
    began = time.time()
    yield
    line = [request.node.name, os.getpid(), began, time.time()]
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(json.dumps(line) + "\\n")
"""
_SLOW = """
import os, time
import pytest

@pytest.mark.parametrize("n", range(4))
def test_NAME(n):
    time.sleep(0.2)

@pytest.mark.parametrize("n", range(2))
def test_NAME_with_a_node(node, n):
    time.sleep(0.05)

@pytest.mark.parametrize("of", ["node"])
def test_NAME_by_parameter_with_a_node(request, of):
    assert request.getfixturevalue(of) == os.getpid()

@pytest.mark.alone
def test_NAME_measures():
    time.sleep(0.2)

@pytest.mark.nightly
def test_NAME_in_full():
    assert "FAIL" != "FAIL"
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nstrict_markers = true\nmarkers =\n  alone: measures\n  nightly: in full\n"
    )
    for name in ("one", "two", "three"):
        (tmp_path / f"test_{name}.py").write_text(_SLOW.replace("NAME", name))
    return tmp_path


def run(suite: Path, *options: str) -> tuple[str, list[Any]]:
    """Run the suite; return what was printed, and who ran what from when to when."""
    notes = suite / "notes"
    command = [sys.executable, "-m", "pytest", "-p", "xdist", *options, str(suite)]
    root = Path(__file__).parents[1]
    env = {"NOTES": str(notes), "PYTHONPATH": str(root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, cwd=suite, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr, [json.loads(line) for line in notes.read_text().splitlines()]


def test_modules_and_the_node_have_one_worker_each_and_what_measures_comes_last_and_alone(
    suite: Path,
) -> None:
    printed, noted = run(suite, "-n", "3")
    assert "24 passed" in printed, printed
    for part in ("test_one[", "test_two[", "test_three[", "_with_a_node"):
        assert len({pid for name, pid, *_ in noted if part in name}) == 1, part
    alone = [row for row in noted if row[0].endswith("_measures")]
    others = [row for row in noted if row not in alone]
    assert len({pid for _, pid, *_ in others}) > 1
    assert min(began for *_, began, _ in alone) >= max(ended for *_, ended in others)
    assert len({pid for _, pid, *_ in alone}) == 1


def test_more_workers_than_work_do_no_harm(suite: Path) -> None:
    printed, _ = run(suite, "-n", "4", "-k", "test_two and (measures or 3)")
    assert "2 passed" in printed, printed


def test_a_proof_in_full_is_run_when_it_is_asked_for(suite: Path) -> None:
    printed, _ = run(suite, "-k", "test_one")
    assert "8 passed, 19 deselected" in printed
    assert "--nightly runs them too" in printed
    printed, _ = run(suite, "-k", "test_one", "--nightly")
    assert "1 failed, 8 passed" in printed


def test_a_proof_in_full_is_not_taken_for_stuck(suite: Path) -> None:
    long = "import time, pytest\n@pytest.mark.nightly\ndef test_long():\n    time.sleep(1.5)\n"
    (suite / "test_long.py").write_text(long)
    bound = ("-o", "faulthandler_timeout=1", "-o", "faulthandler_exit_on_timeout=true")
    printed, _ = run(suite, "-k", "test_long", "--nightly", *bound)
    assert "1 passed" in printed, printed


def test_this_suite_has_every_hook() -> None:
    hooks = {name for name in vars(scheduling) if name.startswith("pytest_")}
    assert hooks <= vars(conftest).keys()
