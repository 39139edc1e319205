"""
Peers side by side, one server, one content: ``python -m bench.peers [--runs 5]``.

Each peer is used as its documentation shows. Per run and peer: as fast as it goes, then at
fixed rates. CPU is of all its processes; ours counts the subscriber too, since a callback
runs inside the others.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any, Final

import click
import msgspec

from bench import plots, results, sides
from bench.rig import Feeder
from bench.sides import Side, median

MARKETS: Final = 20
RATES: Final = (500.0, 4_000.0)


class Peer(msgspec.Struct):
    """One peer, and its results in each run."""

    name: str
    blocks: int
    """Size of its flood: about a second's work."""
    start: Callable[[Feeder], AbstractContextManager[Side]]
    flood: list[float] = []
    cpu_us: list[float] = []
    """At the highest fixed rate."""
    pss: list[float] = []
    latency: dict[float, list[tuple[float, float, float]]] = {}
    """By rate: p50, p99, p99.9 in µs of each run."""
    processes: dict[str, float] = {}

    def row(self) -> list[str]:
        """Return the peer's line of the table; a dash where it was not measured."""
        cells = [self.name, f"{median(self.flood):,.0f}", f"{median(self.cpu_us):.1f}"]
        for rate in RATES:
            taken = self.latency.get(rate, [])
            cells.append(
                " / ".join(f"{median([run[q] for run in taken]) / 1e3:.2f}" for q in range(3))
                if any(any(run) for run in taken)
                else "-"
            )
        return [*cells, f"{median(self.pss):.0f}"]


def peers(feeder: Feeder) -> list[Peer]:
    """Return all that can run here, ours first and the floor last."""
    # With twenty updates a message the stream is at its best; both ways are documented.
    grouped, single = (
        "injective-py, chain stream, one call",
        "injective-py, chain stream, a call per market",
    )
    found = [
        Peer("collector, chain-ws", 2_000, lambda f: sides.ours(f, times="each")),
        Peer(
            "collector, chain-grpc", 800, lambda f: sides.ours(f, times="each", source="chain-grpc")
        ),
    ]
    if sides.has_sdk():
        found += [
            Peer(grouped, 400, lambda f: sides.peer(f, "chain_stream", times=True)),
            Peer(single, 300, lambda f: sides.peer(f, "chain_stream", times=True, per_market=True)),
        ]
    if sides.has_sdk() and "indexer" in feeder.endpoints:
        listen = "injective-py, listen_spot_orderbook_updates"
        found.append(Peer(listen, 300, lambda f: sides.peer(f, "indexer", times=True)))
    found.append(Peer("websockets + json", 800, lambda f: sides.peer(f, "websockets", times=True)))
    if find_spec("cryptofeed"):
        found.append(Peer("cryptofeed, ZeroMQ backend only", 600, sides.cryptofeed))
    found += [
        Peer("floor, a message per update", 2_000, lambda f: sides.floor(f, times=True)),
        Peer(
            "floor, a message per read", 2_000, lambda f: sides.floor(f, times=True, batched=True)
        ),
    ]
    return found


def measure(peer: Peer, feeder: Feeder, *, seconds: float, scale: float = 1.0) -> None:
    """Run one peer once and note what it reached."""
    with peer.start(feeder) as side:
        peer.flood = [*peer.flood, side.flood(max(2, int(peer.blocks * scale)))]
        for rate in RATES:
            stretch = side.steady(rate * scale, seconds)
            taken = (stretch.quantile(0.5), stretch.quantile(0.99), stretch.quantile(0.999))
            peer.latency = peer.latency | {rate: [*peer.latency.get(rate, []), taken]}
        peer.cpu_us = [*peer.cpu_us, stretch.cpu_us()]
        peer.processes = {
            name: round(s * 1e6 / max(1, stretch.updates), 2) for name, s in stretch.cpu.items()
        }
        peer.pss = [*peer.pss, side.pss()]


def compare(runs: int, seconds: float, scale: float = 1.0, only: str = "") -> list[Peer]:
    """Run all of them in turn, a number of times."""
    with Feeder(markets=MARKETS) as feeder:
        found = [peer for peer in peers(feeder) if only in peer.name]
        for run in range(runs):
            for peer in found:
                measure(peer, feeder, seconds=seconds, scale=scale)
            print(f"# run {run + 1} of {runs}", flush=True)
    return found


def head() -> list[str]:
    """Return the table's head."""
    rates = [f"latency at {rate:,.0f}/s, p50 / p99 / p99.9 ms" for rate in RATES]
    return [
        "peer",
        "updates/s at saturation",
        f"CPU µs an update at {RATES[-1]:,.0f}/s",
        *rates,
        "PSS MB",
    ]


@click.command()
@click.option("--runs", default=5, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="Length of one steady load.")
@click.option("--only", default="", help="Only peers with this in their name.")
def main(runs: int, seconds: float, only: str) -> None:
    """Compare the peers and print the table."""
    found = compare(runs, seconds, only=only)
    print(results.table(head(), [peer.row() for peer in found]))
    fields = ("name", "flood", "cpu_us", "pss", "latency", "processes")
    content: dict[str, Any] = {"peers": [{f: getattr(p, f) for f in fields} for p in found]}
    results.save("peers", content)
    plots.peers([(p.name, median(p.flood), median(p.cpu_us), p.processes) for p in found])


if __name__ == "__main__":
    main()
