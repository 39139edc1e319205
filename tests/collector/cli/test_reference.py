"""The pages, and the list of commands, say what the code does."""

import re
from pathlib import Path

import click
import pytest

from collector.cli.base import Group
from collector.cli.main import cli
from tests.make_reference import COMMANDS, commands

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "examples/README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOREIGN = frozenset(
    (
        *("--cap-drop", "--exclude", "--format", "--from-file", "--install", "--read-only"),
        *("--set", "--tmpfs", "--ulimit"),
        *("--archives", "--devnet", "--faults", "--kills", "--minutes", "--nightly", "--short"),
    )
)
"""Options of other programs: of podman, rsync, helm and kubectl; and of ours under tests/."""
options_of = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]").findall


def test_the_page_of_all_commands_is_made_from_the_code():
    # To make it again: python -m tests.make_reference
    assert COMMANDS.read_text() == commands()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_a_page_names_only_options_that_there_are(page: Path):
    known = set(options_of(COMMANDS.read_text())) | {"--help"} | FOREIGN
    # `--left` is an expression of C, in a sample.
    named = {one for one in options_of(page.read_text()) if one != "--left"}
    assert named <= known


def test_the_list_of_commands_names_all_of_a_group():
    assert isinstance(cli, Group)
    shown = click.Context(cli)
    text = cli.get_help(shown)
    groups = {
        name: found
        for name in cli.list_commands(shown)
        if isinstance(found := cli.load(name), Group)
    }
    assert groups
    for name, group in groups.items():
        words = " ".join(re.findall(rf"^  {name} +(.*)$", text, re.MULTILINE))
        _, colon, named = words.rstrip(".").partition(": ")
        if colon:
            assert named.split(", ") == group.list_commands(shown), name
