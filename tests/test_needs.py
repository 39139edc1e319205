"""A run says what it could not prove."""

import subprocess
import sys
from pathlib import Path

from tests import needs

ROOT = Path(__file__).parents[1]


def test_what_was_skipped_is_counted_by_its_reason() -> None:
    reasons = [f"Skipped: {needs.BROWSER.reason}"] * 2 + ["Skipped: too small a disk"]
    assert needs.not_proved(reasons) == [
        "the web page: 2 tests skipped, needs a browser: apt-get install chromium chromium-driver",
        "1 test skipped, too small a disk",
    ]


def test_a_run_on_a_bare_machine_ends_with_what_it_did_not_prove(tmp_path: Path) -> None:
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "promtool_takes_what_we_ship")
    done = subprocess.run(
        [sys.executable, *command, "tests/simulator/test_telemetry.py"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    _, said = done.stdout.split("not proved on this machine")
    assert "the alert rules and the metrics' format: 2 tests skipped" in said
    assert "needs promtool: apt-get install prometheus" in said
