"""
One cell, two relays, many readers, all with keys: does every reader have everything?

``python -m tests.system.relay_tree --readers 0 100 300``. Each reader's facts are compared with the
exchange's record, by number and checksum. The table shows the CPU of the cell and of the relays.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import click
import msgspec
import psutil

from collector.access import authorized_file, key_files
from collector.access.key_files import Keys
from collector.client.requests import RequestClient
from collector.settings.parts import requests_endpoint
from tests.simulator.client import Simulator, simulator
from tests.system.relay_readers import _encode
from tests.system.running import COLLECTOR, Running, collector, eventually, free_port_pair

_EACH: Final = 50
"""Readers in one process."""
_CONNECTIONS: Final = 1_000
"""Of one key; each reader has two."""


def _keys_of(path: Path) -> Keys:
    (keys,) = key_files.read_each(str(path), 1, "keys")
    return keys


class Door:
    """The keys of one publisher, and the file of those that may connect."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.own = key_files.make(name)
        key_files.write(self.own, folder)
        self.path = folder / f"{name}.key"
        self.file = folder / authorized_file.FILE

    def admit(self, name: str, *topics: str) -> Path:
        """Make a key for a reader, with rights to these topics; return its file."""
        keys = key_files.make(name, server=self.own.public)
        key_files.write(keys, self.folder)
        public = authorized_file.of_public(
            key_files.public_part(keys), topics=topics or ("*",), max_connections=_CONNECTIONS
        )
        authorized_file.add(self.file, public)
        return self.folder / f"{name}.key"


class Relay:
    """A running relay with keys."""

    def __init__(self, folder: Path, name: str, connect: str, upstream_key: Path) -> None:
        self.door = Door(folder / name, name)
        self.reader_key = self.door.admit("reader")
        self.publish = f"tcp://127.0.0.1:{free_port_pair()}"
        command = ("relay", "--connect", connect, "--upstream-keys", str(upstream_key))
        with (folder / f"{name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*COLLECTOR, *command, "--publish", self.publish, "--keys", str(self.door.path)],
                stderr=log,
            )

    def await_position(self) -> None:
        """Wait until it has a position of its own."""

        def has() -> bool:
            keys = _keys_of(self.reader_key)
            with (
                RequestClient(requests_endpoint(self.publish), keys) as client,
                contextlib.suppress(TimeoutError),
            ):
                return bool(client.ask("topics", within_s=1.0, prefixes=[""])["head"])
            return False

        eventually(has, within_s=60, every_s=0.2, what="the relay has a position")

    def cpu_s(self) -> float:
        """Return the CPU that it has used."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)


class Result(msgspec.Struct):
    """What one run found."""

    readers: int
    facts: int
    wrong: int
    blocks: int
    cell_ms: float
    relays_ms: float


@contextlib.contextmanager
def tree(
    folder: Path, *, chained: bool, markets: int = 12, block_s: float = 0.5
) -> Iterator[tuple[Simulator, Running, list[Relay]]]:
    """Run an exchange, a cell and two relays of it; or, chained, the second one of the first."""
    door = Door(folder / "cell", "cell")
    with contextlib.ExitStack() as stack:
        options = ("--markets", str(markets), "--block-time", str(block_s), "--touched", "all")
        venue = stack.enter_context(simulator(*options))
        config = venue.config(folder)
        reads = _keys_of(door.admit("status"))
        keyed = ("--keys", str(door.path), "--config", str(config))
        cell = stack.enter_context(collector(folder, *keyed, keys=reads))
        cell.await_live(60)
        relays: list[Relay] = []
        for name in ("one", "two"):
            if chained and relays:
                upstream, key = relays[0].publish, relays[0].door.admit(name)
            else:
                upstream, key = cell.publish, door.admit(name)
            relay = Relay(folder, name, upstream, key)
            stack.callback(relay.process.wait, 90)
            stack.callback(relay.process.terminate)
            relay.await_position()
            relays.append(relay)
        yield venue, cell, relays


def run(
    venue: Simulator, cell: Running, relays: Sequence[Relay], readers: int, seconds: float
) -> Result:
    """Let this many readers read for a while, half of them at each relay, and compare."""
    with contextlib.ExitStack() as stack:
        processes = []
        for place, start in enumerate(range(0, readers, _EACH)):
            relay = relays[place % len(relays)]
            count = min(_EACH, readers - start)
            processes.append(stack.enter_context(_reading(relay, count)))
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"joined\n"
        first = venue.head() + 3
        venue.await_height(first)
        before = _cpu_s(cell), sum(relay.cpu_s() for relay in relays), venue.head()
        time.sleep(seconds)
        after = _cpu_s(cell), sum(relay.cpu_s() for relay in relays), venue.head()
        last = after[2] - 2
        due = truth(venue, first, last)
        heard = []
        for process in processes:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{first} {last} {due[0]}\n".encode())
            process.stdin.flush()
        for process in processes:
            assert process.stdout is not None
            heard += json.loads(process.stdout.readline())
    blocks = max(1, after[2] - before[2])
    return Result(
        readers=len(heard),
        facts=due[0],
        wrong=sum(tuple(one) != due for one in heard),
        blocks=last - first + 1,
        cell_ms=1e3 * (after[0] - before[0]) / blocks,
        relays_ms=1e3 * (after[1] - before[1]) / blocks,
    )


@contextlib.contextmanager
def _reading(relay: Relay, count: int) -> "Iterator[subprocess.Popen[bytes]]":
    module = (sys.executable, "-m", "tests.system.relay_readers")
    options = ("--connect", relay.publish, "--keys", str(relay.reader_key), "--count", str(count))
    with subprocess.Popen(
        [*module, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def truth(venue: Simulator, first: int, last: int) -> tuple[int, int]:
    """Return the number and the checksum of all facts of some heights."""
    facts = total = 0
    for height in range(first, last + 1):
        block = venue.block(height)
        trades: dict[str, list[Any]] = {}
        for market_id, trade in block.trades:
            trades.setdefault(market_id, []).append(trade)
        said: list[list[Any]] = [[market_id, height, of] for market_id, of in trades.items()]
        said += [[u.market_id, height, u.sequence, u.bids, u.asks] for u in block.updates]
        facts += len(said)
        total += sum(crc32(_encode(one)) for one in said)
    return facts, total & 0xFFFFFFFFFFFF


def _cpu_s(cell: Running) -> float:
    """Return the CPU that the cell's processes have used."""
    parent = psutil.Process(cell.process.pid)
    times = [one.cpu_times() for one in (parent, *parent.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


@click.command()
@click.option("--readers", multiple=True, type=int, default=(0, 100, 300), show_default=True)
@click.option("--seconds", default=30.0, show_default=True)
def main(readers: tuple[int, ...], seconds: float) -> None:
    """Measure, and print the table."""
    ok = True
    with (
        tempfile.TemporaryDirectory() as folder,
        tree(Path(folder), chained=False) as (venue, cell, relays),
    ):
        click.echo(f"load {psutil.getloadavg()[0]:.1f}; CPU in ms for each block")
        click.echo("readers  blocks  facts  readers that lack or doubled one  cell  both relays")
        for count in readers:
            found = run(venue, cell, relays, count, seconds)
            ok = ok and not found.wrong and found.readers == count
            click.echo(
                f"{found.readers:>7}{found.blocks:>8}{found.facts:>7}{found.wrong:>34}"
                f"{found.cell_ms:>6.1f}{found.relays_ms:>13.1f}"
            )
    sys.exit(0 if ok else 4)


if __name__ == "__main__":
    main()
