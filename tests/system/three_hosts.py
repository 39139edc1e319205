"""
Three hosts, three parts, two replicas of each, and a reader outside: whatever happens to a host.

``python -m tests.system.three_hosts --faults 50 --seed 1``, as root. The hosts are namespaces on one
bridge (hosts.py), Ray runs on each, their clocks are an hour apart. Faults come at random: a host
is killed, or cut off and connected again; Ray's head is killed; the command that drives is killed;
keepers, cells and Ray's processes are killed. What the reader has is held against the exchange's own
record, as in two_cells.py, and after each fault every part must have two complete replicas again
within 15 s. Ends with 0 only if nothing is lost, doubled or altered, and none was late.
"""

import contextlib
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import psutil

from collector.client.requests import Refused, RequestClient
from collector.client.subscriber import Subscriber
from collector.settings.parts import requests_endpoint
from tests.needs import FAKETIME
from tests.proxy import FaultProxy
from tests.simulator.client import Simulator, simulator
from tests.system.hosts import HERE, NET, Host, isolated, prepare
from tests.system.running import COLLECTOR, eventually
from tests.system.two_cells import Reader, Record, Result, Simulated, compare, settled

BLOCK_S: Final = 0.3
PARTS: Final = 3
REPLICAS: Final = 2
ROOM: Final = 4
PORT: Final = 5590
AGAIN_S: Final = 15.0
"""The time within which every part has its replicas again."""
_BACK_S: Final = 240.0
"""How long a host may take until its Ray is back: that costs CPU, and no reader waits for it."""
_HEAD: Final = f"{NET}.1:6700"
_FOLDER: Final = f"{HERE}/cluster"


class Cluster:
    """The hosts, and what is started on them."""

    def __init__(self, folder: Path, exchange: Simulator, *, clocks: bool) -> None:
        self.folder = folder
        self.parts = PARTS
        self.hosts = []
        for number in (1, 2, 3):
            files = folder / f"host-{number}"
            files.mkdir()
            (files / "collector.toml").write_text(exchange_config(exchange))
            self.hosts.append(Host(number, files, _clock(number) if clocks else {}))

    def boot(self, host: Host) -> None:
        """Start a host, and what systemd would start there."""
        host.boot()
        token = host.files / "cluster/ray.token"
        if not token.exists():
            token.parent.mkdir(exist_ok=True)
            token.touch(0o600)
            token.write_text("f" * 64)
        self.up(host)

    def up(self, host: Host) -> "subprocess.Popen[bytes]":
        """Start the driver there."""
        of_head = (
            ("--listen", _HEAD, "--parts", str(PARTS), "--replicas", str(REPLICAS))
            if host is self.hosts[0]
            else ("--address", _HEAD)
        )
        token = ("--token", f"{_FOLDER}/ray.token", "--room", str(ROOM), "--folder", _FOLDER)
        cells = ("--", "--config", f"{HERE}/collector.toml", "--insecure")
        return host.start(
            [*COLLECTOR, "cluster", "up", *of_head, *token, *cells[: 4 * (host is self.hosts[0])]],
            self.folder / f"up-{host.number}.log",
        )

    def replicas(self) -> Counter[str]:
        """Ask every cell that may exist; count the complete ones of each part."""
        found: Counter[str] = Counter()
        for host in self.hosts:
            if not host.is_up or host.is_cut:
                continue
            parts = set()
            for slot in range(ROOM):
                parts.add(_part_at(f"tcp://{host.address}:{PORT + 2 * slot}"))
            found.update(parts - {""})
        return found

    def is_whole(self) -> bool:
        """Whether every part has its replicas, on different hosts."""
        found = self.replicas()
        return all(found[f"{n}/{self.parts}"] >= REPLICAS for n in range(1, self.parts + 1))

    def scale(self) -> None:
        """Have another number of parts."""
        self.parts = 2 if self.parts == PARTS else PARTS
        size = ("--parts", str(self.parts), "--within", "150")
        self.hosts[0].run([*COLLECTOR, "cluster", "scale", *size, "--folder", _FOLDER], 200)

    def down(self) -> None:
        """End the cluster; nothing of it is left on any host."""
        self.hosts[0].run([*COLLECTOR, "cluster", "down", "--folder", _FOLDER], 100)

        def left() -> list[str]:
            found = [process for host in self.hosts for process in host.processes()]
            return [name for one in found if (name := _name(one))]

        eventually(lambda: not left(), within_s=60, what=lambda: f"the end of {left()}")

    def await_whole(self, within_s: float) -> float:
        """Wait until it is whole; return how long that took."""
        began = time.monotonic()
        eventually(self.is_whole, within_s=within_s, what=self.trouble)
        return time.monotonic() - began

    def trouble(self) -> str:
        """Print the state."""
        logs = [path.read_text()[-600:] for path in sorted(self.folder.glob("up-*.log"))]
        return f"two replicas of each part; there are {self.replicas()}\n" + "\n".join(logs)

    def end(self) -> None:
        """Kill all hosts."""
        for host in self.hosts:
            host.crash()


def exchange_config(exchange: Simulator) -> str:
    """Return the configuration of every cell: the exchange is outside."""

    def outside(url: str) -> str:
        return url.replace("127.0.0.1", f"{NET}.254")

    return (
        f'[network]\nchain_ws = ["{outside(exchange.ws)}"]\n'
        f'chain_stream = ["{outside(exchange.stream)}"]\n'
        f'chain_grpc = ["{outside(exchange.grpc)}"]\nrpc = ["{outside(exchange.rpc)}"]\n'
    )


def _ports(exchange: Simulator) -> set[int]:
    """Return the ports at which the exchange listens, on loopback only."""
    found = (exchange.ws, exchange.stream, exchange.grpc, exchange.rpc)
    return {int(re.findall(r":(\d+)", url)[-1]) for url in found}


def _clock(number: int) -> dict[str, str]:
    """Return the environment of a host whose clock is an hour ahead of the one before."""
    library = next(Path("/usr/lib").glob("**/faketime/libfaketime.so.1"))
    # The monotonic clock is ahead as well: else, libfaketime fails sleeps that have a deadline.
    return {"LD_PRELOAD": str(library), "FAKETIME": f"+{3600 * (number - 1)}"}


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()[:4])
    return ""


def _part_at(endpoint: str) -> str:
    """Return the part of a complete cell; empty if there is none."""
    try:
        with RequestClient(requests_endpoint(endpoint)) as client:
            status: dict[str, Any] = client.ask("status", within_s=0.3)["status"]
    except (TimeoutError, Refused):
        return ""
    if status["coverage"]["now"] < 1.0 or status["gaps"]["open"]:
        return ""
    return str(status["trade_proof"]["part"])


# -- faults --------------------------------------------------------------------------------


def _kill_host(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    host.crash()
    return lambda: cluster.boot(host)


def _kill_head_host(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    """Without a head nothing is placed: what counts is the time after its return."""
    head = cluster.hosts[0]
    head.crash()
    time.sleep(rng.uniform(1.0, 5.0))
    cluster.boot(head)
    return lambda: None


def _cut(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    host.cut()
    return host.heal


def _cut_head(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    """The others go on without it, until it is back."""
    head = cluster.hosts[0]
    head.cut()
    time.sleep(rng.uniform(1.0, 8.0))
    head.heal()
    return lambda: None


def _kill_ray(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    host.kill(["gcs_server", "raylet", "ray::", "/bin/ray "])
    return lambda: None


def _kill_head(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    return _kill_ray(cluster, cluster.hosts[0], rng)


def _forget_head(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    """The head comes back without its state, as on another machine; `up` is run again."""
    head = cluster.hosts[0]
    for path in sorted((head.files / "cluster/gcs").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    _kill_ray(cluster, head, rng)
    return lambda: _stop_soon(cluster.up(head))


def _kill_driver(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    driver = cluster.up(host)
    time.sleep(rng.uniform(0.5, 4.0))
    host.kill(["cluster up"])
    driver.wait(10)
    return lambda: None


def _kill_keeper(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    host.kill(["collector: keeper"])
    return lambda: None


def _kill_cell(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    host.kill([f"--part {rng.randint(1, cluster.parts)}/{cluster.parts}"])
    return lambda: None


def _kill_actors(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    host.kill(["ray::Manager", "ray::HostAgent"])
    return lambda: None


def _scale(cluster: Cluster, host: Host, rng: random.Random) -> Callable[[], None]:
    """No fault; but cells start and end."""
    cluster.scale()
    return lambda: None


def _stop_soon(driver: "subprocess.Popen[bytes]") -> None:
    driver.wait(120)


FAULTS: Final[dict[str, Callable[[Cluster, Host, random.Random], Callable[[], None]]]] = {
    "kill host": _kill_host,
    "cut off": _cut,
    "kill head's host": _kill_head_host,
    "cut head off": _cut_head,
    "kill head": _kill_head,
    "kill driver": _kill_driver,
    "forget head": _forget_head,
    "kill ray": _kill_ray,
    "kill keeper": _kill_keeper,
    "kill cell": _kill_cell,
    "kill actors": _kill_actors,
    "scale": _scale,
}


_OTHERS: Final = frozenset(("kill host", "cut off", "kill ray"))
"""Faults of hosts other than the head's."""


class Run(msgspec.Struct):
    """What a run found."""

    result: Result
    within_s: float
    """How long it may take until all replicas are complete again."""
    again: list[tuple[str, int, float]] = []
    """Each fault, its host, and after how long all replicas were complete again."""

    @property
    def late(self) -> list[tuple[str, int, float]]:
        """What took too long."""
        return [row for row in self.again if row[2] > self.within_s and row[0] != "scale"]

    def __str__(self) -> str:
        lines = [str(self.result)]
        for name, rows in itertools.groupby(sorted(self.again), key=lambda row: row[0]):
            times = [row[2] for row in rows]
            lines.append(
                f"{name}: {len(times)}, whole again after {min(times):.1f} to {max(times):.1f} s"
            )
        return "\n".join(lines)


def run(folder: Path, *, faults: list[str], seed: int, clocks: bool, within_s: float) -> Run:
    """Run the named faults one after the other, and compare."""
    rng = random.Random(seed)
    found = Run(Result(Counter()), within_s)
    with contextlib.ExitStack() as stack:
        exchange = stack.enter_context(
            simulator("--markets", "12", "--block-time", str(BLOCK_S), "--touched", "all")
        )
        for port in _ports(exchange):
            stack.enter_context(FaultProxy("127.0.0.1", port, host=f"{NET}.254", port=port))
        cluster = Cluster(folder, exchange, clocks=clocks)
        stack.callback(cluster.end)
        for host in cluster.hosts:
            cluster.boot(host)
        cluster.await_whole(_BACK_S)
        named = ",".join(f"tcp://{host.address}:{PORT}" for host in cluster.hosts)
        reader = stack.enter_context(Reader(Subscriber(cluster=named, channels=["book", "trades"])))
        chain = Simulated(exchange)
        record = Record(settled(chain, [reader]))
        began = time.monotonic()
        for name in faults:
            # The head has faults of its own.
            host = rng.choice(cluster.hosts[name in _OTHERS :])
            found.result.faults[name] += 1
            found.again.append((name, host.number, _one(cluster, host, name, rng)))
            record.take(chain, settled(chain, [reader]))
            click.echo(f"{name} on {host.number}: {found.again[-1][2]:.1f} s", err=True)
        found.result.silence_s = reader.longest_silence_s(began)
        last = settled(chain, [reader])
        record.take(chain, last)
        compare(record, reader, last, found.result)
        cluster.down()
    return found


def _one(cluster: Cluster, host: Host, name: str, rng: random.Random) -> float:
    """Let one fault happen; return how long replicas were missing. Then all hosts are back."""
    heal = FAULTS[name](cluster, host, rng)
    took = cluster.await_whole(60)
    heal()
    eventually(lambda: _all_in(cluster), within_s=_BACK_S, every_s=1.0, what=cluster.trouble)
    cluster.await_whole(60)
    return took


def _all_in(cluster: Cluster) -> bool:
    """Whether Ray has all hosts again, and none is silent."""
    told = subprocess.run(
        cluster.hosts[0]._inside([*COLLECTOR, "cluster", "status", "--json", "--folder", _FOLDER]),
        capture_output=True,
        env=cluster.hosts[0]._env(),
        check=False,
    ).stdout
    try:
        view = msgspec.json.decode(told)
    except msgspec.DecodeError:
        return False
    return len(view["hosts"]) == 3 and all(row["silent_s"] < 3 for row in view["hosts"])


def turns(rng: random.Random, most: int) -> Iterator[str]:
    """Yield each fault in turn, again and again, each time in another order."""
    while most > 0:
        names = list(FAULTS)
        rng.shuffle(names)
        yield from names[:most]
        most -= len(names)


@click.command()
@click.option("--faults", type=int, default=9, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(FAULTS)))
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--clocks/--no-clocks", default=True, help="An hour apart, or right.")
@click.option("--within", type=float, default=AGAIN_S, show_default=True, help="Seconds.")
@click.option("--keep", type=click.Path(path_type=Path), help="Leave all files there.")
@click.option("--inside", is_flag=True, hidden=True)
def main(
    faults: int,
    only: tuple[str, ...],
    seed: int,
    clocks: bool,
    within: float,
    keep: Path | None,
    inside: bool,
) -> None:
    """Run it and say what was found."""
    if not inside:
        command = isolated([sys.executable, "-m", "tests.system.three_hosts", *sys.argv[1:]])
        os.execvp(command[0], [*command, "--inside"])
    prepare()
    names = list(only) or list(turns(random.Random(seed), faults))
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        clocks = clocks and not FAKETIME.missing()
        found = run(folder, faults=names, seed=seed, clocks=clocks, within_s=within)
    click.echo(found)
    sys.exit(0 if found.result.passed and not found.late else 4)


if __name__ == "__main__":
    main()
