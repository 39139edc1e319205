"""
Two cells on one chain and one reader: whatever happens to either, the reader has every fact once.

``python -m tests.system.two_cells --minutes 10 --seed 1``. A simulated exchange, or with ``--devnet``
a real node with real trading; two collectors with a proxy before each; a subscriber to both and one
to the first alone. Faults come at random: a cell is killed, stopped, cut off, restarted; a shard or
an aggregator is killed. What the reader has is compared with the chain's own record. Ends with 0 only
if nothing is lost, doubled or altered.
"""

import contextlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import click
import msgspec
import psutil

from collector.client.subscriber import Subscriber
from collector.settings.parts import requests_endpoint
from shards.protocol.events import Book, Level, Trade, Trades
from tests.proxy import FaultProxy
from tests.simulator.client import Simulator, simulator
from tests.system import chain_record
from tests.system.reader import Reader
from tests.system.running import Devnet, Running, collector, devnet, eventually, free_port_pair

BLOCK_S: Final = 0.3
_HEALED_S: Final = 60.0


class Facts(msgspec.Struct):
    """What one block did, in a form that can be compared."""

    trades: dict[tuple[str, int], Any] = {}
    """All trades of one market and height, in order."""
    changes: dict[tuple[str, int], Any] = {}
    """Bids and asks of one change, by market and sequence."""


class Exchange(Protocol):
    """What the cells collect."""

    block_s: float

    def config(self, folder: Path) -> Path:
        """Write a collector's configuration for it."""

    def head(self) -> int:
        """Return the newest height."""

    def facts(self, height: int) -> Facts:
        """Return the record of a block."""


class Simulated:
    """A simulated exchange; it forgets old blocks, so their facts are taken in time."""

    def __init__(self, simulated: Simulator) -> None:
        self.block_s = BLOCK_S
        self._simulated = simulated

    def config(self, folder: Path) -> Path:
        """Write a collector's configuration for it."""
        return self._simulated.config(folder)

    def head(self) -> int:
        """Return the newest height."""
        return self._simulated.head()

    def facts(self, height: int) -> Facts:
        """Return the record of a block."""
        block, found = self._simulated.block(height), Facts()
        for market_id, trade in block.trades:
            found.trades.setdefault((market_id, height), []).append(of_trade(trade))
        for update in block.updates:
            found.changes[update.market_id, update.sequence] = of_sides(update.bids, update.asks)
        return found


class Real:
    """A real node under traffic; its record is read apart from the product's decoders."""

    def __init__(self, node: Devnet) -> None:
        self._node = node
        since, height = time.monotonic(), self.head()
        eventually(lambda: self.head() >= height + 10, within_s=120, what="ten blocks")
        self.block_s = (time.monotonic() - since) / 10

    def config(self, folder: Path) -> Path:
        """Write a collector's configuration for it."""
        return self._node.config(folder)

    def head(self) -> int:
        """Return the newest height."""
        with urllib.request.urlopen(f"{self._node.rpc}/status", timeout=30) as answer:
            return int(json.load(answer)["result"]["sync_info"]["latest_block_height"])

    def facts(self, height: int) -> Facts:
        """Return the record of a block."""
        recorded, found = chain_record.block(self._node.rpc, height), Facts()
        for market_id, *fields in recorded.trades.values():
            found.trades.setdefault((market_id, height), []).append(tuple(fields))
        for of in found.trades.values():
            of.sort(key=lambda fields: int(fields[0].partition("_")[2]))
        found.changes.update(recorded.changes)
        return found


def of_trade(trade: Trade) -> tuple[str, ...]:
    """Return a trade's fields, to be compared."""
    fields: tuple[str, ...] = msgspec.structs.astuple(trade)
    return fields


def of_sides(bids: list[Level], asks: list[Level]) -> tuple[frozenset[Any], frozenset[Any]]:
    """Return the levels of a change, to be compared."""
    return frozenset(map(tuple, bids)), frozenset(map(tuple, asks))


class Cell:
    """One collector, with its state kept over restarts, behind a proxy."""

    def __init__(
        self,
        name: str,
        folder: Path,
        exchange: Exchange,
        stack: contextlib.ExitStack,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        self._config = str(exchange.config(self.folder))
        self.publish = f"tcp://127.0.0.1:{free_port_pair()}"
        self._environment = environment
        self._context = contextlib.ExitStack()
        stack.callback(lambda: self._context.close())
        self.proxies = [
            stack.enter_context(FaultProxy("127.0.0.1", int(at.rpartition(":")[2])))
            for at in (self.publish, requests_endpoint(self.publish))
        ]
        self.running: Running = self.start()

    @property
    def connect(self) -> str:
        """Where a reader finds its frames."""
        return f"tcp://127.0.0.1:{self.proxies[0].port}"

    @property
    def requests(self) -> str:
        """Where a reader asks."""
        return f"tcp://127.0.0.1:{self.proxies[1].port}"

    def start(self) -> Running:
        """Start it, or start it again."""
        options = ("--config", self._config, "--shards", "1", "--state", str(self.folder / "kept"))
        self.running = self._context.enter_context(
            collector(self.folder, *options, publish=self.publish, env=self._environment)
        )
        return self.running

    def end(self) -> None:
        """Wait for what is left of it."""
        self._context.close()
        self._context = contextlib.ExitStack()

    def family(self) -> list[psutil.Process]:
        """Return all its processes."""
        parent = psutil.Process(self.running.process.pid)
        return [parent, *parent.children(recursive=True)]

    def signal_all(self, number: int) -> None:
        """Signal each of its processes."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def subscriber_of(cells: list[Cell]) -> Subscriber:
    return Subscriber(
        [cell.connect for cell in cells],
        requests=[cell.requests for cell in cells],
        channels=["book", "trades"],
    )


class Result(msgspec.Struct):
    """What a run found."""

    faults: Counter[str]
    blocks: int = 0
    trades: int = 0
    changes: int = 0
    lost: int = 0
    doubled: int = 0
    altered: int = 0
    missing: int = 0
    silence_s: float = 0.0
    lone_silence_s: float = 0.0
    pause_s: float = 0.0
    """The longest time between two blocks by the chain's own clock: no reader can hear more."""
    excess_s: float = 0.0
    """By how much a silence was at most longer than the chain's own pause in it."""
    block_s: float = BLOCK_S

    @property
    def passed(self) -> bool:
        """Whether the reader had every fact once, as it is."""
        return not (self.lost or self.doubled or self.altered or self.missing)

    def _lone(self) -> str:
        alone = self.lone_silence_s
        return f", of the first cell alone {alone:.2f} s" if alone else ""

    def __str__(self) -> str:
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        return (
            f"{sum(self.faults.values())} faults ({faults})\n"
            f"{self.blocks} blocks, {self.trades} trades, {self.changes} book changes: "
            f"{self.lost} lost, {self.missing} missing, {self.doubled} doubled, "
            f"{self.altered} altered\n"
            f"longest silence {self.silence_s:.2f} s{self._lone()}; "
            f"a block each {self.block_s:.2f} s, the chain's "
            f"longest pause {self.pause_s:.2f} s; a silence exceeded the chain's own pause by at most "
            f"{1e3 * self.excess_s:.0f} ms"
        )


# -- faults --------------------------------------------------------------------------------


def _kill(cell: Cell, rng: random.Random) -> None:
    cell.signal_all(signal.SIGKILL)
    cell.end()
    time.sleep(rng.uniform(0.0, 2.0))
    cell.start()


def _stop(cell: Cell, rng: random.Random) -> None:
    cell.signal_all(signal.SIGSTOP)
    try:
        time.sleep(rng.uniform(1.0, 6.0))
    finally:
        cell.signal_all(signal.SIGCONT)


def _cut(cell: Cell, rng: random.Random) -> None:
    for proxy in cell.proxies:
        proxy.refuse()
        proxy.cut()
    time.sleep(rng.uniform(1.0, 6.0))
    for proxy in cell.proxies:
        proxy.heal()


def _freeze(cell: Cell, rng: random.Random) -> None:
    for proxy in cell.proxies:
        proxy.freeze()
    time.sleep(rng.uniform(1.0, 6.0))
    for proxy in cell.proxies:
        proxy.heal()


def _restart(cell: Cell, rng: random.Random) -> None:
    cell.running.stop()
    cell.end()
    cell.start()


def _kill_child(name: str) -> Callable[[Cell, random.Random], None]:
    def kill(cell: Cell, rng: random.Random) -> None:
        os.kill(cell.running.pid(name), signal.SIGKILL)

    return kill


FAULTS: Final[dict[str, Callable[[Cell, random.Random], None]]] = {
    "kill": _kill,
    "stop": _stop,
    "cut": _cut,
    "freeze": _freeze,
    "restart": _restart,
    "kill shard": _kill_child("shard 0"),
    "kill aggregator": _kill_child("aggregator"),
}


# -- the run -------------------------------------------------------------------------------


def run(
    folder: Path, *, seconds: float, seed: int, most: int = 1_000, real: bool = False
) -> Result:
    """Run faults for so long, or so many of them, and compare; on a real node if asked to."""
    rng = random.Random(seed)
    result = Result(Counter())
    with contextlib.ExitStack() as stack:
        exchange = stack.enter_context(_exchange(real=real))
        result.block_s = exchange.block_s
        cells = [Cell(name, folder, exchange, stack) for name in ("a", "b")]
        for cell in cells:
            cell.running.await_live(60)
        reader = stack.enter_context(Reader(subscriber_of(cells)))
        lone = stack.enter_context(Reader(subscriber_of(cells[:1])))
        record = Record(settled(exchange, [reader, lone]))
        began = time.monotonic()
        for name in _faults(rng, most):
            if time.monotonic() - began > seconds:
                break
            cell = rng.choice(cells)
            result.faults[name] += 1
            FAULTS[name](cell, rng)
            cell.running.await_live(_HEALED_S)
            record.take(exchange, settled(exchange, [reader]))
        result.silence_s = reader.longest_silence_s(began)
        result.lone_silence_s = lone.longest_silence_s(began)
        result.pause_s = reader.longest_pause_s()
        result.excess_s = reader.longest_excess_s(began)
        last = settled(exchange, [reader])
        record.take(exchange, last)
        compare(record, reader, last, result)
    return result


@contextlib.contextmanager
def _exchange(*, real: bool) -> Iterator[Exchange]:
    if real:
        with devnet("--spot", "6", "--perp", "2") as node:
            yield Real(node)
    else:
        options = ("--markets", "6", "--block-time", str(BLOCK_S), "--touched", "all")
        with simulator(*options) as simulated:
            yield Simulated(simulated)


def _faults(rng: random.Random, most: int) -> Iterator[str]:
    """Yield each fault in turn, again and again, each time in another order."""
    while most > 0:
        names = list(FAULTS)
        rng.shuffle(names)
        yield from names[:most]
        most -= len(names)


def settled(exchange: Exchange, readers: list[Reader]) -> int:
    """Wait until readers have heard of a height that is yet to come; return it."""
    height = exchange.head() + 3
    eventually(
        lambda: all(reader.highest >= height + 2 for reader in readers),
        within_s=_HEALED_S,
        what=f"block {height} at the readers",
    )
    return height


class Record:
    """What the exchange says of its blocks."""

    def __init__(self, first: int) -> None:
        self.first = self.next = first
        self.trades: dict[tuple[str, int], Any] = {}
        self.changes: dict[tuple[str, int], Any] = {}

    def take(self, exchange: Exchange, last: int) -> None:
        """Take the blocks up to a height."""
        for height in range(self.next, last + 1):
            found = exchange.facts(height)
            self.trades |= found.trades
            self.changes |= found.changes
        self.next = last + 1


def compare(record: Record, reader: Reader, last: int, result: Result) -> None:
    """Hold what was heard against the exchange's record."""
    first, trades, changes = record.first, record.trades, record.changes
    heard_trades, heard_changes, order = _heard(reader, first, last)
    result.blocks = last - first + 1
    result.trades = sum(map(len, trades.values()))
    result.changes = len(changes)
    result.lost = len(reader.lost)
    for due, heard in ((trades, heard_trades), (changes, heard_changes)):
        result.missing += len(due.keys() - heard.keys())
        result.doubled += sum(len(copies) - 1 for copies in heard.values())
        result.altered += sum(copies[0] != due.get(key) for key, copies in heard.items())
    # What is out of order is not as it was either.
    result.altered += sum(a >= b for ones in order.values() for a, b in itertools.pairwise(ones))


def _heard(reader: Reader, first: int, last: int) -> tuple[Any, Any, dict[str, list[int]]]:
    trades: dict[tuple[str, int], list[Any]] = {}
    changes: dict[tuple[str, int], list[Any]] = {}
    order: dict[str, list[int]] = {}
    for received in reader.heard:
        event = received.event
        if isinstance(event, Trades) and first <= event.height <= last:
            said = [of_trade(trade) for trade in event.trades]
            trades.setdefault((event.market_id, event.height), []).append(said)
            order.setdefault(received.topic, []).append(event.height)
        elif isinstance(event, Book) and not event.is_snapshot and first <= event.height <= last:
            key = (event.market_id, event.sequence)
            changes.setdefault(key, []).append(of_sides(event.bids, event.asks))
            order.setdefault(received.topic, []).append(event.sequence)
    return trades, changes, order


@click.command()
@click.option("--minutes", type=float, default=1.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--devnet", "real", is_flag=True, help="On a real node with real trading.")
def main(minutes: float, seed: int, real: bool) -> None:
    """Run it and say what was found."""
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), seconds=minutes * 60, seed=seed, real=real)
    click.echo(f"{result}; load {psutil.getloadavg()[1]:.1f}")
    sys.exit(0 if result.passed else 4)


if __name__ == "__main__":
    main()
