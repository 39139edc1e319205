"""Budgets on the real node, 280 markets with ordinary traffic: 5a, 6 and 10."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.budget import Line, Scale, budget
from bench.rig import Listener
from bench.rows_load import latency_ms
from bench.use import CpuClock, family
from tests.system.running import Devnet, Running, collector, devnet


@contextlib.contextmanager
def node(scale: Scale) -> Iterator[Devnet]:
    """Run a devnet of 280 markets with the traffic that it makes by itself."""
    spot, perp = scale.size(200, 3), scale.size(80, 1)
    with devnet("--spot", str(spot), "--perp", str(perp)) as found:
        yield found


@contextlib.contextmanager
def collecting(found: Devnet, *, shards: int) -> Iterator[tuple[Running, float]]:
    """Run a collector; also say in how many seconds it covered everything."""
    with tempfile.TemporaryDirectory(prefix="b-") as name:
        folder = Path(name)
        config = ("--network", "local", "--config", str(found.config(folder)))
        began = time.monotonic()
        with collector(folder, *config, "--shards", str(shards)) as running:
            running.await_live(60.0)
            yield running, time.monotonic() - began


@budget("5a")
def latency(scale: Scale) -> list[Line]:
    """Receive to aggregator on ordinary traffic."""
    line = Line("5a", "receive to aggregator, devnet of 280 markets, 2 shards: p99", [], 1.0, "ms")
    middle = []
    with (
        node(scale) as found,
        collecting(found, shards=2) as (running, _),
        Listener(running.publish, times="times") as listener,
    ):
        for _ in range(scale.runs):
            listener.mark()
            time.sleep(scale.seconds * scale.size(4, 1))
            at = latency_ms(listener.mark()["latency"])
            line.values.append(at(0.99))
            middle.append(at(0.5))
    line.note = "p50 " + ", ".join(f"{ms:.2f}" for ms in middle)
    return [line]


@budget("6")
def idle_cpu(scale: Scale) -> list[Line]:
    """Everything that the collector uses on ordinary traffic."""
    line = Line(
        "6", "CPU of all processes, devnet of 280 markets, 2 shards", [], 8.0, "% of a core"
    )
    with node(scale) as found, collecting(found, shards=2) as (running, _):
        time.sleep(scale.size(5, 0))
        for _ in range(scale.runs):
            clock = CpuClock(family(running.process.pid))
            began = time.monotonic()
            time.sleep(scale.seconds * scale.size(4, 1))
            spent = clock.read()
            share = 100 / (time.monotonic() - began)
            line.values.append(sum(spent.values()) * share)
            line.note = ", ".join(f"{name} {s * share:.1f}" for name, s in spent.items())
    return [line]


@budget("10")
def start(scale: Scale) -> list[Line]:
    """From the command to full coverage."""
    line = Line("10", "start to full coverage, devnet of 280 markets, 4 shards", [], 4.0, "s")
    with node(scale) as found:
        for _ in range(scale.runs):
            with collecting(found, shards=scale.size(4, 2)) as (_, seconds):
                line.values.append(seconds)
    return [line]
