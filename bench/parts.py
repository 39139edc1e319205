"""
How cost grows with markets and parts: ``python -m bench.parts``.

A simulated exchange of many markets, and cells that each collect one part of them. Every book changes
in every block, and the blocks come at such a pace that each cell of each row has the same number of
updates a second. Then the CPU of a cell for an update should not depend on the number of markets;
what a cell spends in any case, once a second, is the same share of it in all rows. The aggregator's
share is shown.
"""

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Final

import click
import msgspec
import psutil

from tests.simulator.client import simulator
from tests.system.running import Running, collector

ROWS: Final = ((300, 1), (1_000, 1), (1_000, 2), (3_000, 1), (3_000, 2), (3_000, 4))


class Use(msgspec.Struct):
    """What a cell has used and done so far."""

    all_s: float
    aggregator_s: float
    updates: int


class Row(msgspec.Struct):
    """One measured setup."""

    markets: int
    parts: int
    updates: int
    us: float
    """CPU for each update, of a cell with all its processes."""
    aggregator: float
    """The aggregator's share of it."""


def _use(cell: Running) -> Use:
    parent = psutil.Process(cell.process.pid)
    times = [one.cpu_times() for one in (parent, *parent.children(recursive=True))]
    own = psutil.Process(cell.pid("aggregator")).cpu_times()
    events = cell.status()["events"]
    return Use(
        sum(one.user + one.system for one in times),
        own.user + own.system,
        events["trades"] + events["book_updates"],
    )


def measure(markets: int, parts: int, seconds: float, updates_per_s: float) -> Row:
    """Measure one row, with so many updates a second for each cell."""
    block_s = markets / parts / updates_per_s
    options = ("--markets", str(markets), "--touched", "all", "--block-time", str(block_s))
    with contextlib.ExitStack() as stack:
        venue = stack.enter_context(simulator(*options))
        cells = []
        for part in range(1, parts + 1):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            config = str(venue.config(folder))
            chosen = ("--part", f"{part}/{parts}") if parts > 1 else ()
            cells.append(stack.enter_context(collector(folder, "--config", config, *chosen)))
        for cell in cells:
            cell.await_live(240)
        time.sleep(3.0)
        before = [_use(cell) for cell in cells]
        time.sleep(seconds)
        after = [_use(cell) for cell in cells]
    spent = [
        Use(b.all_s - a.all_s, b.aggregator_s - a.aggregator_s, b.updates - a.updates)
        for a, b in zip(before, after, strict=True)
    ]
    all_s, updates = sum(one.all_s for one in spent), sum(one.updates for one in spent)
    share = sum(one.aggregator_s for one in spent) / all_s
    return Row(markets, parts, updates, 1e6 * all_s / updates, share)


@click.command()
@click.option("--seconds", default=20.0, show_default=True)
@click.option("--updates-per-s", default=500.0, show_default=True, help="Of each cell.")
def main(seconds: float, updates_per_s: float) -> None:
    """Measure every row, and print the table."""
    click.echo("markets  parts  updates  CPU an update  of it the aggregator  load")
    for markets, parts in ROWS:
        row = measure(markets, parts, seconds, updates_per_s)
        click.echo(
            f"{row.markets:>7}{row.parts:>7}{row.updates:>9}{row.us:>12.0f} µs"
            f"{100 * row.aggregator:>20.0f} %{psutil.getloadavg()[0]:>7.1f}"
        )


if __name__ == "__main__":
    main()
