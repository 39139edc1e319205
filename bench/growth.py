"""
Memory over a long time at a steady rate: ``python -m bench.growth --minutes 60 --rate 10000``.
``--devnet`` takes the traffic of a real node of 280 markets instead.

Each minute one row per process; at the end the growth after the first ten minutes: the median of
the last five readings less the median of the first five after them. Growth is that of a process's
private memory: PSS also changes when other programs start or end.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import click
import msgspec

from bench import results, rows_devnet
from bench.budget import Scale
from bench.rig import Listener, bench
from bench.use import family, memory
from tests.system.running import Running

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


def read(running: Running, beside: dict[str, int], minute: float, updates_per_s: float) -> Reading:
    """Read every process's memory, also of those ``beside``, and whether anything was lost."""
    pids = family(running.process.pid) | beside
    found = {name: memory(pid) for name, pid in pids.items() if name != "resource tracker"}
    status = running.status() or {"frames": {"dropped": -1}, "gaps": {"opened": -1}}
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
    with bench(markets=markets, shards=shards, times="times") as b:
        b.feeder.steady(rate)
        b.listener.mark()

        def updates() -> int:
            b.feeder.do("marks")
            return int(b.listener.mark()["books"])

        return _watch(b.collector, {"feeder": b.feeder.pid}, updates, minutes, every_s)


def watch_node(minutes: float, shards: int, every_s: float, scale: Scale) -> list[Reading]:
    """Do the same with the traffic of a real node."""
    with (
        rows_devnet.node(scale) as found,
        rows_devnet.collecting(found, shards=shards) as (running, _),
        Listener(running.publish) as listener,
    ):
        listener.mark()
        return _watch(running, {}, lambda: int(listener.mark()["books"]), minutes, every_s)


def _watch(
    running: Running,
    beside: dict[str, int],
    updates: Callable[[], int],
    minutes: float,
    every_s: float,
) -> list[Reading]:
    """Write a row per interval; ``updates`` returns how many came since it was last called."""
    readings: list[Reading] = []
    began = last = time.monotonic()
    while (last - began) / 60 < minutes:
        time.sleep(max(0.0, began + (len(readings) + 1) * every_s - time.monotonic()))
        now = time.monotonic()
        rate = round(updates() / (now - last), 1)
        readings.append(read(running, beside, round((now - began) / 60, 2), rate))
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
@click.option("--devnet", is_flag=True, help="Take a real node's traffic; no rate, no markets.")
@click.option("--every", default=60.0, show_default=True, help="Seconds between readings.")
def main(
    minutes: float, rate: float, markets: int, shards: int, devnet: bool, every: float
) -> None:
    """Watch every process's memory at a steady rate."""
    if devnet:
        content = keep(watch_node(minutes, shards, every, Scale()))
    else:
        content = keep(watch(minutes, rate, markets, shards, every))
    print(f"growth after minute {SETTLED}, MB of their own: {content['growth_mb']}")
    if content["growth_mb"]:
        verdict = "met" if content["within_budget"] else "NOT met"
        print(f"budget {BUDGET_MB} MB per shard: {verdict}")
    else:
        print(f"too short: growth counts from minute {SETTLED}")


if __name__ == "__main__":
    main()
