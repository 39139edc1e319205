"""
How cost grows with markets and parts: ``python -m bench.parts``.

A simulated exchange of many markets, and cells that each collect one part of them. Every book changes
in every block. Two tables:

- *the same updates a second in each cell*: the blocks come at such a pace. Then a cell of many markets has
  quiet ones, and what is done every second for each market would show as CPU for an update.
- *the same chain* (``--chain``): the blocks come at the pace of the real chain, whatever the number of markets.

Only the second table shows separately what a cell spends once a second in any case.
"""

import contextlib
import math
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

import click
import msgspec
import psutil

from tests.simulator.client import simulator
from tests.system.running import Running, collector

ROWS: Final = ((300, 1), (1_000, 1), (1_000, 2), (3_000, 1), (3_000, 2), (3_000, 4))
_PROCESSES: Final = ("shard", "aggregator", "coordinator")
_CHAIN_S: Final = 0.65


class Use(msgspec.Struct):
    """What a cell has used and done so far."""

    cpu_s: dict[str, float]
    """By kind of process."""
    updates: int


class Row(msgspec.Struct):
    """One measured setup."""

    markets: int
    parts: int
    updates_per_s: float
    """Of one cell."""
    us: dict[str, float]
    """CPU for each update, by kind of process."""

    @property
    def all_us(self) -> float:
        """CPU for each update, of a cell with all its processes."""
        return sum(self.us.values())


def _use(cell: Running) -> Use:
    status = cell.status()
    cpu_s = {"coordinator": _cpu_s(cell.process.pid)}
    for process in status["processes"]:
        kind = process["name"].partition(" ")[0]
        if kind != "coordinator":
            cpu_s[kind] = cpu_s.get(kind, 0.0) + _cpu_s(process["pid"])
    events = status["events"]
    return Use(cpu_s, events["trades"] + events["book_updates"])


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def measure(markets: int, parts: int, seconds: float, block_s: float) -> Row:
    """Measure one row."""
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
        before, began = [_use(cell) for cell in cells], time.monotonic()
        time.sleep(seconds)
        after, elapsed_s = [_use(cell) for cell in cells], time.monotonic() - began
    updates = sum(b.updates - a.updates for a, b in zip(before, after, strict=True))
    spent: Counter[str] = Counter()
    for a, b in zip(before, after, strict=True):
        spent.update({kind: b.cpu_s[kind] - a.cpu_s.get(kind, 0.0) for kind in b.cpu_s})
    us = {kind: 1e6 * cpu_s / updates for kind, cpu_s in spent.items()}
    return Row(markets, parts, updates / elapsed_s / parts, us)


@click.command()
@click.option("--seconds", default=20.0, show_default=True, help="At least; whole blocks.")
@click.option("--updates-per-s", default=500.0, show_default=True, help="Of each cell.")
@click.option("--chain", is_flag=True, help="The same pace of blocks in all rows.")
@click.option("--only", multiple=True, metavar="MARKETS/PARTS", help="These rows alone.")
def main(seconds: float, updates_per_s: float, *, chain: bool, only: tuple[str, ...]) -> None:
    """Measure every row, and print the table."""
    heads = "".join(f"{kind:>13}" for kind in _PROCESSES)
    click.echo(f"markets  parts  updates/s  µs an update  ÷ first{heads}  aggregator  load")
    first = 0.0
    for markets, parts in ROWS:
        if only and f"{markets}/{parts}" not in only:
            continue
        block_s = _CHAIN_S if chain else markets / parts / updates_per_s
        # Whole blocks: with few of them, half a block more or less would change the rate.
        row = measure(markets, parts, block_s * math.ceil(seconds / block_s), block_s)
        first = first or row.all_us
        each = "".join(f"{row.us.get(kind, 0.0):>13.1f}" for kind in _PROCESSES)
        share = 100 * row.us.get("aggregator", 0.0) / row.all_us
        click.echo(
            f"{row.markets:>7}{row.parts:>7}{row.updates_per_s:>11.0f}{row.all_us:>14.1f}"
            f"{row.all_us / first:>9.2f}{each}{share:>10.0f} %{psutil.getloadavg()[0]:>6.1f}"
        )


if __name__ == "__main__":
    main()
