"""
Make the pages of docs/reference/ from the code: every command with its options, every metric.

    python -m tests.make_reference

The metrics are those that a collector serves, which is started on the simulator for it. Tests compare
the pages with the code (tests/collector/cli/test_reference.py, tests/simulator/test_telemetry.py).
"""

import contextlib
import sys
import tempfile
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from prometheus_client.parser import text_string_to_metric_families

from collector.cli.base import Group
from collector.cli.main import cli
from collector.cli.options import Option

FOLDER: Final = Path(__file__).parents[1] / "docs" / "reference"
COMMANDS: Final = FOLDER / "commands.md"
METRICS: Final = FOLDER / "metrics.md"
_MADE: Final = (
    "<!-- Made by `python -m tests.make_reference`: change the code, not this page. -->\n"
)
_INTERNAL: Final = frozenset({"le", "quantile"})
_SUFFIX: Final = {"counter": "_total", "info": "_info"}


class MetricRow(NamedTuple):
    """One family, as a page shows it."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


# ---- commands ---------------------------------------------------------------------------


def commands() -> str:
    """Return the page of all commands, with every option and its environment twin."""
    pages = [_section(name, command) for name, command in _all(cli, ())]
    return "\n".join(["# Commands\n", _MADE, *pages])


def _all(group: click.Group, before: tuple[str, ...]) -> Iterable[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.load(name) if isinstance(group, Group) else group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _all(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"collector {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## `collector {name}`\n", f"`collector {name} {usage}`\n", _prose(command.help), ""]
    options = [one for one in command.params if isinstance(one, Option) and not one.hidden]
    if options:
        lines += ["| option | environment | meaning |", "| --- | --- | --- |"]
        lines += [_option_row(one, command.name or name, context) for one in options]
        lines.append("")
    return "\n".join(lines)


def _option_row(option: Option, command: str, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None
    flag, text = record
    return f"| `{_cell(flag)}` | `{option.twins(command)[0]}` | {_cell(text)} |"


def _prose(text: str | None) -> str:
    """Keep paragraphs; what click prints as it is becomes a block of code."""
    parts = []
    for part in (text or "").replace("\r", "").split("\n\n"):
        if part.strip().startswith("\b"):
            body = part.strip().removeprefix("\b").strip("\n")
            parts.append(f"```text\n{body}\n```")
        else:
            parts.append(" ".join(part.split()))
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# ---- metrics ----------------------------------------------------------------------------


def served(text: str) -> list[MetricRow]:
    """Read the families of a scrape, in their order."""
    found = []
    for family in text_string_to_metric_families(text):
        labels: dict[str, None] = {}
        for sample in family.samples:
            labels |= dict.fromkeys(label for label in sample.labels if label not in _INTERNAL)
        name = f"{family.name}{_SUFFIX.get(family.type, '')}"
        found.append(MetricRow(name, family.type, tuple(labels), family.documentation))
    return found


def metrics(rows: Iterable[MetricRow]) -> str:
    """Return the page of all metrics."""
    lines = [
        "# Metrics\n",
        _MADE,
        "| metric | type | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.name}` | {row.type} | {labels} | {_cell(row.help)} |")
    return "\n".join(lines) + "\n"


def documented() -> list[MetricRow]:
    """Read the page of all metrics."""
    rows = []
    for line in METRICS.read_text().splitlines()[6:]:
        name, kind, labels, text = (cell.strip() for cell in line.strip("| ").split(" | "))
        names = tuple(label.strip("`") for label in labels.split(", ") if label)
        rows.append(MetricRow(name.strip("`"), kind, names, text))
    return rows


def _scrape() -> str:
    """Start a collector on the simulator, with all that has metrics, and return what it serves."""
    from tests.simulator.client import simulator
    from tests.system.running import collector, eventually, free_port_pair

    def ask(port: int) -> str:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer,
        ):
            found: bytes = answer.read()
            return found.decode()
        # It does not listen yet.
        return ""

    with tempfile.TemporaryDirectory() as name, simulator("--markets", "4") as venue:
        folder, port = Path(name), free_port_pair()
        config = venue.config(folder)
        # One node under two names is read as two.
        other = venue.ws.replace("127.0.0.1", "localhost")
        text = config.read_text().replace(f'["{venue.ws}"]', f'["{venue.ws}", "{other}"]')
        config.write_text(f"redundancy = 2\n{text}")
        options: tuple[Any, ...] = (
            *("--config", config, "--http", port, "--record", folder / "archive"),
        )
        with collector(folder, *map(str, options)) as running:
            running.await_live()
            eventually(lambda: "collector_recorder_up 1" in ask(port), within_s=60)
            eventually(lambda: "collector_gc_pause_seconds_count" in ask(port), within_s=60)
            return ask(port)


def main() -> int:
    """Write both pages."""
    FOLDER.mkdir(exist_ok=True)
    COMMANDS.write_text(commands())
    METRICS.write_text(metrics(served(_scrape())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
