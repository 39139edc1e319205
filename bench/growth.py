"""
Memory over a long time at a steady rate: ``python -m bench.growth --minutes 60 --rate 10000``.

Each minute one row per process; at the end the growth after the first ten minutes: the median of
the last five readings less the median of the first five after them. Growth is that of a process's
private memory: PSS also changes when other programs start or end.
"""

import statistics
import time
from typing import Any, Final

import click
import msgspec

from bench import results
from bench.rig import Bench, bench
from bench.use import family, memory

BUDGET_MB: Final = 1.0
SETTLED: Final = 10


class Reading(msgspec.Struct):
    """All processes at one minute."""

    minute: float
    updates_per_s: float
    pss: dict[str, float]
    rss: dict[str, float]
    uss: dict[str, float]
    dropped: int
    gaps: int


def read(b: Bench, minute: float, updates_per_s: float) -> Reading:
    """Read every process's memory, and whether anything was lost."""
    pids = family(b.collector.process.pid) | {"feeder": b.feeder.pid}
    found = {name: memory(pid) for name, pid in pids.items() if name != "resource tracker"}
    status = b.collector.status() or {"frames": {"dropped": -1}, "gaps": {"opened": -1}}
    return Reading(
        minute,
        updates_per_s,
        {name: round(use.pss, 2) for name, use in found.items()},
        {name: round(use.rss, 2) for name, use in found.items()},
        {name: round(use.uss, 2) for name, use in found.items()},
        status["frames"]["dropped"],
        status["gaps"]["opened"],
    )


def growth(readings: list[Reading], settled: float = SETTLED) -> dict[str, float]:
    """Return how much each process grew after it had settled, in MB of its own memory."""
    later = [reading for reading in readings if reading.minute >= settled]
    if len(later) < 2:
        return {}
    some = min(5, len(later) // 2)

    def level(name: str, chosen: list[Reading]) -> float:
        return statistics.median(reading.uss.get(name, 0.0) for reading in chosen)

    return {
        name: round(level(name, later[-some:]) - level(name, later[:some]), 2)
        for name in later[-1].uss
    }


def watch(minutes: float, rate: float, markets: int, shards: int, every_s: float) -> list[Reading]:
    """Load for a given time, and write a row per interval."""
    readings: list[Reading] = []
    with bench(markets=markets, shards=shards, times="times") as b:
        b.feeder.steady(rate)
        b.listener.mark()
        began = last = time.monotonic()
        while (minute := (last - began) / 60) < minutes:
            time.sleep(max(0.0, began + (len(readings) + 1) * every_s - time.monotonic()))
            now = time.monotonic()
            updates = b.listener.mark()["books"]
            b.feeder.do("marks")
            minute = (now - began) / 60
            readings.append(read(b, round(minute, 2), round(updates / (now - last), 1)))
            last = now
            say(readings[-1])
            keep(readings)
    return readings


def say(reading: Reading) -> None:
    """Print one row."""
    sizes = "  ".join(f"{n} {pss:.1f}/{reading.uss[n]:.2f}" for n, pss in reading.pss.items())
    print(
        f"min {reading.minute:6.2f}  {reading.updates_per_s:8.0f} upd/s  PSS/own MB: {sizes}  "
        f"dropped {reading.dropped}  gaps {reading.gaps}",
        flush=True,
    )


def keep(readings: list[Reading]) -> dict[str, Any]:
    """Save what is known so far."""
    grown = growth(readings)
    shards = [mb for name, mb in grown.items() if name.startswith("shard")]
    content = {
        "growth_mb": grown,
        "largest_shard_pss_mb": max(
            (mb for r in readings for n, mb in r.pss.items() if n.startswith("shard")), default=0.0
        ),
        "within_budget": bool(shards) and max(shards) <= BUDGET_MB,
        "readings": msgspec.to_builtins(readings),
    }
    results.save("growth", content)
    return content


@click.command()
@click.option("--minutes", default=60.0, show_default=True)
@click.option("--rate", default=10_000.0, show_default=True, help="Book updates a second.")
@click.option("--markets", default=280, show_default=True)
@click.option("--shards", default=2, show_default=True)
@click.option("--every", default=60.0, show_default=True, help="Seconds between readings.")
def main(minutes: float, rate: float, markets: int, shards: int, every: float) -> None:
    """Watch every process's memory at a steady rate."""
    content = keep(watch(minutes, rate, markets, shards, every))
    print(f"growth after minute {SETTLED}, MB of their own: {content['growth_mb']}")
    if content["growth_mb"]:
        verdict = "met" if content["within_budget"] else "NOT met"
        print(f"budget {BUDGET_MB} MB per shard: {verdict}")
    else:
        print(f"too short: growth counts from minute {SETTLED}")


if __name__ == "__main__":
    main()
