"""
The table of budgets: ``python -m bench.budgets [--runs 5] [--only 3,7]``.

Each row is the median over the runs; both sides of a ratio are measured in the same run.
The table is printed and written to results/budgets.json.
"""

import time
import traceback
from subprocess import SubprocessError
from typing import Any

import click
import msgspec

from bench import boot, results, rows_core, rows_devnet, rows_load, rows_realtime
from bench.budget import HEAD, ROWS, Line, Scale

_ORDER = ("1", "2", "3", "4", "5a", "5b", "6", "7", "8", "9", "10", "11", "12", "13")
_ON_REQUEST = ("14",)
"""Rows that need a larger machine than most."""
_MODULES = (rows_core, rows_devnet, rows_load, boot, rows_realtime)
"""Importing them registers their rows."""


_FAILURES = (AssertionError, LookupError, OSError, ValueError, ArithmeticError, SubprocessError)
"""How a row ends whose processes do not start, end early or give no frames."""


class Outcome(msgspec.Struct):
    """What was measured, and under which conditions."""

    lines: list[Line] = []
    conditions: dict[str, dict[str, Any]] = {}
    """By row: load, stolen time, governor."""
    failed: list[str] = []
    """Rows that gave no figures."""


def reach(numbers: list[str], scale: Scale) -> Outcome:
    """Measure some rows; a row that fails is shown as failed, and the others continue."""
    outcome = Outcome()
    for number in numbers:
        began, conditions = time.monotonic(), results.Conditions()
        try:
            outcome.lines += ROWS[number](scale)
        except _FAILURES:
            traceback.print_exc()
            outcome.failed.append(number)
        around = outcome.conditions[number] = conditions.read()
        said = ", ".join(f"{name} {value}" for name, value in around.items())
        print(f"# row {number}: {time.monotonic() - began:.0f} s; {said}", flush=True)
    return outcome


def wanted(only: str) -> list[str]:
    """Read a list of rows; ``5`` stands for 5a and 5b."""
    if not only:
        return list(_ORDER)
    asked = [part.strip() for part in only.split(",")]
    found = [row for row in (*_ORDER, *_ON_REQUEST) if row in asked or row.rstrip("ab") in asked]
    if not found:
        raise click.BadParameter(f"no such row: choose from {', '.join((*_ORDER, *_ON_REQUEST))}")
    return found


@click.command()
@click.option("--runs", default=5, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="Length of one steady load.")
@click.option("--only", default="", help="Rows, by number, separated by commas.")
def main(runs: int, seconds: float, only: str) -> None:
    """Measure the budgets and print the table."""
    outcome = reach(wanted(only), Scale(runs, seconds))
    lines = outcome.lines
    print(results.table(HEAD, [line.row() for line in lines]))
    content: dict[str, Any] = {
        "lines": [
            msgspec.to_builtins(line) | {"reached": line.reached, "met": line.met} for line in lines
        ],
        "conditions": outcome.conditions,
    }
    # A part of the table must not replace the whole one.
    suffix = "-" + only.replace(",", "-") if only else ""
    print(f"written to {results.save(f'budgets{suffix}', content).name}")
    if outcome.failed:
        raise SystemExit(f"no figures of row {', '.join(outcome.failed)}: see above")


if __name__ == "__main__":
    main()
