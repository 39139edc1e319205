"""
How many markets a shard should carry: ``python -m bench.scale [--seconds 5]``.

One shard, 1 to 3,000 markets. Every market changes in every block (0.65 s), with 16 levels an
update: the worst possible block. The table and the plot go to results/. The recommended number is
the largest whose worst block still reaches the aggregator in time, p99, on this machine as it was
during the run.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

import click
import msgspec

from bench import plots, results, rig, sides
from bench.rig import Feeder
from bench.rows_load import latency_ms
from bench.use import memory

MARKETS: Final = (1, 3, 10, 30, 100, 300, 1_000, 3_000)
IN_TIME_MS: Final = 10.0
_BLOCK_S: Final = 0.65


class Scaled(msgspec.Struct):
    """One number of markets."""

    markets: int
    live_s: float
    """From the command to full coverage."""
    coverage: float
    cpu_us: float
    """Per update: shard, aggregator and coordinator."""
    shard_cpu: float
    """Of a core."""
    p50_ms: float
    p99_ms: float
    shard_mb: float
    aggregator_mb: float

    def row(self) -> tuple[str, ...]:
        """Return its line."""
        return (
            f"{self.markets:,}",
            f"{self.live_s:.1f}",
            f"{self.coverage:.2f}",
            f"{self.cpu_us:.1f}",
            f"{100 * self.shard_cpu:.1f}",
            f"{self.p50_ms:.2f} / {self.p99_ms:.2f}",
            f"{self.shard_mb:.1f}",
            f"{self.aggregator_mb:.1f}",
        )


HEAD: Final = (
    *("markets", "start to live s", "coverage", "CPU µs an update", "shard % of a core"),
    *("p50 / p99 ms", "PSS MB, shard", "aggregator"),
)


def size(markets: int, *, seconds: float) -> Scaled:
    """Measure one number of markets on one shard."""
    with Feeder(markets=markets) as feeder:
        began = time.monotonic()
        with rig.live(feeder, times="times") as b:
            live_s = time.monotonic() - began
            side = sides.Side(feeder, b.pids, b.listener.mark)
            stretch = side.steady(markets / _BLOCK_S, seconds)
            at = latency_ms(stretch.report["latency"])
            pids = b.pids()
            return Scaled(
                markets,
                live_s,
                b.collector.status()["coverage"]["now"],
                stretch.cpu_us("shard", "aggregator", *sides.LIBRARIES),
                stretch.cpu["shard 0"] / stretch.seconds,
                at(0.5),
                at(0.99),
                memory(pids["shard 0"]).pss,
                memory(pids["aggregator"]).pss,
            )


def market_kb(found: Sequence[Scaled]) -> tuple[float, float]:
    """Return KiB per market in a shard and in the aggregator, from smallest and largest run."""
    few, many = found[0], found[-1]
    more = max(1, many.markets - few.markets)
    grown = (many.shard_mb - few.shard_mb, many.aggregator_mb - few.aggregator_mb)
    return grown[0] * 1024 / more, grown[1] * 1024 / more


def recommended(found: Sequence[Scaled], within_ms: float = IN_TIME_MS) -> int:
    """Return how many markets stay within the time: between two sizes, along a line."""
    before: Scaled | None = None
    for size in found:
        if size.p99_ms > within_ms or size.coverage < 1.0:
            if before is None:
                return 0
            if size.p99_ms <= within_ms:
                return before.markets
            share = (within_ms - before.p99_ms) / (size.p99_ms - before.p99_ms)
            return int(before.markets + share * (size.markets - before.markets))
        before = size
    return before.markets if before is not None else 0


def said(found: Sequence[Scaled]) -> str:
    """Return the conclusion from the table."""
    shard, aggregator = market_kb(found)
    return (
        f"a market takes {shard:.0f} kB in a shard and {aggregator:.0f} kB in the aggregator; "
        f"recommended on this machine: up to {recommended(found):,} markets a shard "
        f"(a block that changes them all is with the aggregator within {IN_TIME_MS:.0f} ms, p99)"
    )


@click.command()
@click.option("--seconds", default=5.0, show_default=True, help="Length of each size's load.")
@click.option("--most", default=3_000, show_default=True, help="No more markets than this.")
def main(seconds: float, most: int) -> None:
    """Measure how cost and latency grow with the markets, and recommend a number."""
    found = []
    for markets in (count for count in MARKETS if count <= most):
        found.append(size(markets, seconds=seconds))
        print("# " + "  ".join(found[-1].row()), flush=True)
    print(results.table(HEAD, [scaled.row() for scaled in found]))
    print(said(found))
    plots.scale([(s.markets, s.cpu_us, s.p50_ms, s.p99_ms) for s in found])
    content: dict[str, Any] = {
        "sizes": msgspec.to_builtins(found),
        "recommended": recommended(found),
    }
    results.save("scale", content)


if __name__ == "__main__":
    main()
