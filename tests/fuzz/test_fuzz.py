"""The kept inputs go through their targets; in ``tox -e fuzz`` new ones too, for a minute each."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from collector.client.received import Received
from tests.fuzz.__main__ import CORPUS
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS, framed, replied
from tests.hostile import HOSTILE

_SECONDS = int(os.environ.get("FUZZ_SECONDS", "0"))
needs_time = pytest.mark.skipif(not _SECONDS, reason="searched for in `tox -e fuzz` (FUZZ_SECONDS)")
needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed (no wheel for this Python, or pip install atheris)",
)


@pytest.mark.parametrize("name", TARGETS)
def test_the_kept_inputs_do_no_harm(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        TARGETS[name](path.read_bytes())


@pytest.mark.parametrize(("name", "deliver"), [("frame", framed), ("reply", replied)])
def test_the_first_inputs_reach_what_a_subscriber_delivers(
    name: str, deliver: Callable[[bytes], list[Received]]
) -> None:
    inputs = [found for found in seeds()[name] if found not in HOSTILE.values()]
    delivered = {received.channel for data in inputs for received in deliver(data)}
    assert delivered >= {"book", "trades", "ticker", "gap"}


@needs_time
@needs_atheris
@pytest.mark.parametrize("name", TARGETS)
def test_nor_do_new_ones(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(_SECONDS)],
        capture_output=True,
        text=True,
        timeout=_SECONDS + 60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
