"""
The table of budgets: ``python -m bench.budgets [--runs 5] [--only 3,7]``.

Each row is the median over the runs; both sides of a ratio are measured in the same run.
The table is printed and written to results/budgets.json.
"""

import time
from typing import Any

import click
import msgspec

from bench import boot, results, rows_core, rows_devnet, rows_load, rows_realtime
from bench.budget import HEAD, ROWS, Line, Scale

_ORDER = ("1", "2", "3", "4", "5a", "5b", "6", "7", "8", "9", "10", "11", "12")
_MODULES = (rows_core, rows_devnet, rows_load, boot, rows_realtime)
"""Importing them registers their rows."""


def reach(numbers: list[str], scale: Scale) -> list[Line]:
    """Measure some rows; a row that fails is shown as failed, and the others continue."""
    lines: list[Line] = []
    for number in numbers:
        began = time.monotonic()
        lines += ROWS[number](scale)
        print(f"# row {number}: {time.monotonic() - began:.0f} s", flush=True)
    return lines


def wanted(only: str) -> list[str]:
    """Read a list of rows; ``5`` stands for 5a and 5b."""
    if not only:
        return list(_ORDER)
    asked = [part.strip() for part in only.split(",")]
    found = [row for row in _ORDER if row in asked or row.rstrip("ab") in asked]
    if not found:
        raise click.BadParameter(f"no such row: choose from {', '.join(_ORDER)}")
    return found


@click.command()
@click.option("--runs", default=5, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="Length of one steady load.")
@click.option("--only", default="", help="Rows, by number, separated by commas.")
def main(runs: int, seconds: float, only: str) -> None:
    """Measure the budgets and print the table."""
    lines = reach(wanted(only), Scale(runs, seconds))
    print(results.table(HEAD, [line.row() for line in lines]))
    content: dict[str, Any] = {
        "lines": [
            msgspec.to_builtins(line) | {"reached": line.reached, "met": line.met} for line in lines
        ]
    }
    # A part of the table must not replace the whole one.
    suffix = "-" + only.replace(",", "-") if only else ""
    print(f"written to {results.save(f'budgets{suffix}', content).name}")


if __name__ == "__main__":
    main()
