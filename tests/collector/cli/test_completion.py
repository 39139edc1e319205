"""Completion, as a real bash does it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from collector.cli.main import cli

COMPLETE = """
source "$1"
COMP_WORDS=($2); COMP_CWORD=$3
_collector_completion collector
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "at", "offered"),
    [
        ("collector sta", 1, {"start", "status"}),
        ("collector start --sou", 2, {"--source"}),
        ("collector start --source chain-", 3, {"chain-ws", "chain-grpc"}),
        ("collector archive co", 2, {"coverage"}),
    ],
)
def test_bash_offers_what_may_follow(tmp_path: Path, typed: str, at: int, offered: set[str]):
    script = tmp_path / "completion"
    script.write_text(CliRunner().invoke(cli, ["completion", "bash"]).output)
    done = subprocess.run(
        ("bash", "-c", COMPLETE, "-", str(script), typed, str(at)),
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert offered <= set(done.stdout.split())


def test_the_shells():
    for shell, word in (("bash", "complete"), ("zsh", "#compdef"), ("fish", "complete")):
        assert word in CliRunner().invoke(cli, ["completion", shell]).output
    assert CliRunner().invoke(cli, ["completion", "csh"]).exit_code == 2
