"""
Load until something gives way, and see how: ``python -m bench.stress [--minutes 5]``.

First the table: bursts (every market touched at once, each 0.65 s) and floods, from 10 to 3,000
markets and from 1 to 4 shards. Then twice the saturating load for some minutes. It passes if no
process ended, memory stayed flat, every lost frame was counted and announced, and after the load
everything is whole again without a restart.
"""

from typing import Any, Final

import click
import msgspec

from bench import plots, results, rig, sides
from bench.overload import SHARE, Overload, overload
from bench.rig import Feeder
from bench.rows_load import block_times_ms, latency_ms
from bench.sides import median
from bench.use import memory

MARKETS: Final = (10, 30, 100, 300, 1_000, 3_000)
SHARDS: Final = (1, 2, 4)
_UPDATES: Final = 30_000


class Reached(msgspec.Struct):
    """One size of the table."""

    markets: int
    shards: int
    updates_per_s: float
    p50_ms: float
    p99_ms: float
    block_ms: float
    """First byte of a burst to its last frame published."""
    pss_mb: dict[str, float]
    dropped: int
    gaps: int

    def row(self) -> tuple[str, ...]:
        """Return its line."""
        largest = max(mb for name, mb in self.pss_mb.items() if name.startswith("shard"))
        return (
            f"{self.markets:,}",
            str(self.shards),
            f"{self.updates_per_s:,.0f}",
            f"{self.p50_ms:.2f} / {self.p99_ms:.2f}",
            f"{self.block_ms:.1f}",
            f"{largest:.0f}",
            f"{self.pss_mb['aggregator']:.0f}",
            f"{self.dropped} / {self.gaps}",
        )


HEAD: Final = (
    *("markets", "shards", "updates/s in a flood", "burst p50 / p99 ms", "burst to last frame ms"),
    *("PSS MB, largest shard", "aggregator", "dropped / gaps"),
)


def size(markets: int, shards: int, *, seconds: float, updates: int = _UPDATES) -> Reached:
    """Measure one size: bursts, then a flood."""
    with Feeder(markets=markets) as feeder, rig.live(feeder, shards=shards, times="times") as b:
        side = sides.Side(feeder, b.pids, b.listener.mark)
        bursts = side.steady(markets / 0.65, seconds)
        at = latency_ms(bursts.report["latency"])
        plots.latency(f"{markets}-markets-{shards}-shards", bursts.report["latency"])
        rate = side.flood(max(2, updates // markets))
        status = b.collector.status()
        pss = {n: memory(pid).pss for n, pid in b.pids().items() if n != "resource tracker"}
        return Reached(
            *(markets, shards, rate, at(0.5), at(0.99), median(block_times_ms(bursts)), pss),
            status["frames"]["dropped"],
            status["gaps"]["opened"],
        )


def table(markets: tuple[int, ...], shards: tuple[int, ...], seconds: float) -> list[Reached]:
    """Measure every size and print each at once."""
    found = []
    for n in shards:
        for count in markets:
            found.append(size(count, n, seconds=seconds))
            print("# " + "  ".join(found[-1].row()), flush=True)
    return found


@click.command()
@click.option(
    "--minutes", default=5.0, show_default=True, help="Length of the overload; 0 for none."
)
@click.option(
    "--seconds", default=5.0, show_default=True, help="Length of the bursts of each size."
)
@click.option("--sizes/--no-sizes", default=True, show_default=True, help="Measure the table.")
@click.option("--markets", default=1_000, show_default=True, help="Markets in the overload.")
@click.option("--shards", default=1, show_default=True, help="Shards in the overload.")
@click.option("--share", default=SHARE, show_default=True, help="What they get of a core.")
def main(
    minutes: float, seconds: float, sizes: bool, markets: int, shards: int, share: float
) -> None:
    """Load until something gives way; end with 1 if it does not give way as designed."""
    content: dict[str, Any] = {}
    if sizes:
        found = table(MARKETS, SHARDS, seconds)
        print(results.table(HEAD, [reached.row() for reached in found]))
        plots.throughput([(r.markets, r.shards, r.updates_per_s) for r in found])
        content["sizes"] = msgspec.to_builtins(found)
    result: Overload | None = None
    if minutes:
        result = overload(minutes, markets=markets, shards=shards, share=share)
        print(result.said())
        content["overload"] = msgspec.to_builtins(result) | {"passed": not result.failures()}
    results.save("stress", content)
    if result is not None and result.failures():
        raise SystemExit("NOT as designed: " + "; ".join(result.failures()))


if __name__ == "__main__":
    main()
