"""
What the web page costs the data path: the same load without browsers and with five.

Both are measured in turns within one run, so that other work on the machine affects both.
"""

import contextlib
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import click
import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bench import results, rig, sides
from bench.rig import Feeder
from bench.rows_load import latency_ms
from bench.sides import Stretch, median

HEAD: Final = ("", "nobody looks", "with the page open", "ratio")


class Browser:
    """What a browser does for one tab: takes the answer and asks for more."""

    def __init__(self, url: str, symbol: str) -> None:
        self.bytes = 0
        self._symbol = symbol
        with contextlib.ExitStack() as stack:
            address = f"ws://{urlsplit(url).netloc}/live"
            self._connection = stack.enter_context(connect(address))
            self._closing = stack.pop_all()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                text = self._connection.recv()
                self.bytes += len(text)
                message = json.loads(text)
                if "listing" in message:
                    self._connection.send(json.dumps({"open": self._symbol}))
                self._connection.send(json.dumps({"seen": message["n"]}))

    def close(self) -> None:
        """Close the tab."""
        self._closing.close()
        self._thread.join()


@contextlib.contextmanager
def browsers(url: str, symbols: list[str]) -> Iterator[list[Browser]]:
    """Open a tab for each of these markets."""
    opened = [Browser(url, symbol) for symbol in symbols]
    try:
        yield opened
    finally:
        for browser in opened:
            browser.close()


class Found(msgspec.Struct):
    """Both sides, a value for each turn."""

    alone: list[Stretch] = []
    watched: list[Stretch] = []
    bytes_per_s: list[float] = []
    """To one browser."""

    def rows(self) -> list[tuple[str, ...]]:
        """Lay both sides out: latency, then CPU per update."""
        names = sorted(name for name in self.alone[0].cpu if name.startswith(("shard", "aggr")))
        rows = [
            self._row(
                f"latency p{q * 100:g}, ms",
                [_latency(stretch, q) for stretch in self.alone],
                [_latency(stretch, q) for stretch in self.watched],
                _pooled(self.watched, q) / max(_pooled(self.alone, q), 1e-9),
            )
            for q in (0.5, 0.99)
        ]
        rows += [
            self._row(
                f"CPU of {name}, µs an update",
                [stretch.cpu_us(name) for stretch in self.alone],
                [stretch.cpu_us(name) for stretch in self.watched],
            )
            for name in names
        ]
        web = median([s.cpu["web"] / s.seconds * 100 for s in self.watched])
        rows.append(("CPU of the page's process", "", f"{web:.1f} %", ""))
        rows.append(("to one browser", "", f"{median(self.bytes_per_s) / 1e3:.1f} kB/s", ""))
        return rows

    @staticmethod
    def _row(
        name: str, alone: list[float], watched: list[float], ratio: float | None = None
    ) -> tuple[str, ...]:
        """Lay out one line; the ratio is that of the medians, unless it is known better."""
        # In a short turn a process may use less than the kernel's clock can tell.
        ratio = median(watched) / max(median(alone), 1e-9) if ratio is None else ratio
        return name, _spread(alone), _spread(watched), f"{ratio:.3f}"


def _latency(stretch: Stretch, q: float) -> float:
    return latency_ms(stretch.report["latency"])(q)


def _pooled(stretches: list[Stretch], q: float) -> float:
    """Return a quantile over all turns of one side."""
    counts: Counter[int] = Counter()
    for stretch in stretches:
        counts.update(dict(stretch.report["latency"]))
    return latency_ms(counts.items())(q)


def _spread(values: list[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def measure(*, markets: int, shards: int, seconds: float, turns: int, tabs: int) -> Found:
    """Measure both sides in turns."""
    found = Found()
    options = ("--web", "127.0.0.1:0")
    with (
        Feeder(markets=markets) as feeder,
        rig.live(feeder, shards=shards, times="times", options=options) as b,
    ):
        # The browsers are threads of ours; people's are on machines of their own.
        os.nice(10)
        side = sides.Side(feeder, b.pids, b.listener.mark)
        url = b.collector.status()["web"]
        symbols = [row["symbol"] for row in b.collector.markets()][:tabs]
        rate = markets / 0.65
        side.steady(rate, seconds / 2)
        for _ in range(turns):
            found.alone.append(side.steady(rate, seconds))
            with browsers(url, symbols) as opened:
                found.watched.append(side.steady(rate, seconds))
                total = sum(browser.bytes for browser in opened)
                found.bytes_per_s.append(total / tabs / (seconds + sides.SETTLE_S))
    return found


@click.command()
@click.option("--markets", default=300, show_default=True)
@click.option("--shards", default=2, show_default=True)
@click.option("--seconds", default=8.0, show_default=True, help="Length of each turn.")
@click.option("--turns", default=6, show_default=True)
@click.option("--tabs", default=5, show_default=True, help="Browsers, each with a market open.")
def main(markets: int, shards: int, seconds: float, turns: int, tabs: int) -> None:
    """Compare the data path with nobody looking and with the page open."""
    found = measure(markets=markets, shards=shards, seconds=seconds, turns=turns, tabs=tabs)
    sys.stdout.write(results.table(HEAD, found.rows()) + "\n")
    results.save("page", {"markets": markets, "shards": shards, "rows": found.rows()})


if __name__ == "__main__":
    main()
