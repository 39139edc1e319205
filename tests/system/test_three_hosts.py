"""A cluster on three hosts: the short form of `tests.system.three_hosts`, and the run in full."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.needs import NAMESPACES

pytestmark = [
    # Also the short form: it needs the machine to itself, and the gate runs it after all others.
    pytest.mark.nightly,
    pytest.mark.alone,
    NAMESPACES.required(),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: hosts are namespaces"),
]
ROOT = Path(__file__).parents[2]
BUSY = 3.0
"""Load of each processor above which Ray cannot start: its agents must be ready within 15 s."""


@pytest.fixture(autouse=True)
def idle() -> None:
    """Wait until the tests before are forgotten; a machine that is busy with others proves nothing."""
    until = time.monotonic() + 60
    while os.getloadavg()[0] > BUSY * (os.cpu_count() or 1):
        if time.monotonic() > until:
            pytest.skip(f"needs a machine that is not busy: its load is {os.getloadavg()[0]:.0f}")
        time.sleep(1.0)


def three_hosts(*options: str, within_s: float) -> str:
    """Run it to its end; return what it found."""
    pytest.importorskip("ray", reason="needs the extra cluster")
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.three_hosts", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4_000:]
    return done.stdout


def test_lost_hosts_heads_and_drivers_cost_the_reader_nothing() -> None:
    faults = ("kill host", "cut off", "kill head", "kill driver", "scale")
    chosen = [word for name in faults for word in ("--only", name)]
    # Three Rays on two cores: in full it is 15 s, on a machine that does nothing else.
    said = three_hosts(*chosen, "--within", "45", within_s=340)
    assert "0 lost, 0 missing, 0 doubled, 0 altered" in said


def test_fifty_faults_cost_the_reader_nothing() -> None:
    said = three_hosts("--faults", "50", "--seed", "1", within_s=3 * 3_600)
    assert "0 lost, 0 missing, 0 doubled, 0 altered" in said
