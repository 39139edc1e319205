"""
What intruders cost honest readers: the latency of frames with intruders and without them.

``python -m bench.intruders [--rounds 30] [--seconds 2] [--rate 1000] [--hosts 5000]`` starts a
collector with keys on the simulated exchange, a reader that has one, and intruders who are stopped
(SIGSTOP) in every other interval. Both sides are the same processes in the same minutes, and each
interval under attack is compared with the two beside it.

This measures the *collector's* work for intruders, not the CPU that they use themselves: as root,
the honest side has priority over the intruders, and they over everything else (SCHED_RR). With
``--hosts 0`` they come from one address, otherwise from many.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import zmq

from collector.access import authorized_file, key_files
from collector.access.key_files import Keys
from collector.settings.parts import requests_endpoint
from shards.protocol import frames
from tests.simulator.client import simulator
from tests.system.running import Running, collector

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_QUANTILES: Final = (0.5, 0.9, 0.99)


class Reader:
    """An honest reader: how late each frame is, in µs since its publication."""

    def __init__(self, endpoint: str, keys: Keys) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = socket = self._context.socket(zmq.SUB)
        socket.curve_publickey, socket.curve_secretkey = keys.public.encode(), keys.secret.encode()
        socket.curve_serverkey = keys.server.encode()
        socket.subscribe(b"")
        socket.connect(endpoint)

    def read(self, seconds: float) -> list[float]:
        """Read for this time."""
        late: list[float] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not self._socket.poll(50):
                continue
            _, body = self._socket.recv_multipart()
            now = time.time_ns()
            late.append((now - frames.decode(body)[0].ts_pub) / 1e3)
        return sorted(late)

    def close(self) -> None:
        """Close the socket."""
        self._context.destroy(linger=0)


def threads(pid: int) -> Counter[str]:
    """Return the CPU of each thread of a process, in seconds."""
    used: Counter[str] = Counter()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            name, _, rest = (task / "stat").read_text().rpartition(")")
            ticks = sum(map(int, rest.split()[11:13]))
            used[f"{name.partition('(')[2]} {task.name}"] = ticks
    return Counter({name: ticks / _TICKS for name, ticks in used.items()})


@contextlib.contextmanager
def world(folder: Path, markets: int) -> Iterator[tuple[Running, Keys]]:
    """Run a collector with keys, everything live."""
    key_files.write(key_files.make("server"), folder)
    server = Keys.read(folder / "server.key")
    keys = key_files.make("alice", server=server.public)
    entry = authorized_file.of_public(key_files.public_part(keys), max_connections=64)
    authorized_file.add(folder / authorized_file.FILE, entry)
    with (
        simulator("--markets", str(markets), "--block-time", "0.05") as venue,
        collector(folder, "--shards", "1", "--config", str(venue.config(folder)),
                  "--keys", str(folder / "server.key"), keys=keys) as running,
    ):  # fmt: skip
        running.await_live()
        yield running, keys


@contextlib.contextmanager
def intruders(running: Running, server: str, rate: float, hosts: int) -> Iterator[list[Any]]:
    """Run intruders against both endpoints, then end them."""
    processes = []
    for endpoint in (running.publish, requests_endpoint(running.publish)):
        command = [sys.executable, "-m", "tests.simulator.intruders", endpoint]
        command += ["--server-key", server, "--attempts", "1000000000", "--at-once", "400"]
        command += ["--rate", str(rate / 2), "--hosts", str(hosts), "--unlisted", "8"]
        one = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(one.pid, os.SCHED_RR, os.sched_param(1))
        processes.append(one)
    try:
        yield processes
    finally:
        for one in processes:
            one.kill()
            one.wait()


def quantile(late: list[float], share: float) -> float:
    """Return a quantile of sorted numbers."""
    return late[min(len(late) - 1, int(share * len(late)))]


def compared(quiet: list[list[float]], attack: list[list[float]]) -> dict[str, Any]:
    """Compare each interval under attack with the ones beside it."""
    found: dict[str, Any] = {}
    for share in _QUANTILES:
        calm, loud = ([quantile(one, share) for one in side] for side in (quiet, attack))
        ratios = [2 * x / (calm[i] + calm[i + 1]) for i, x in enumerate(loud)]
        found[f"p{share * 100:g}"] = {
            "quiet_us": round(median(calm)),
            "attack_us": round(median(loud)),
            "ratio": round(median(ratios), 3),
        }
    return found


def refused(running: Running) -> int:
    """Count the connections that did not get in so far."""
    return sum(running.status()["access"]["refused"].values())


@click.command()
@click.option("--rounds", default=30)
@click.option("--seconds", default=2.0)
@click.option("--rate", default=1_000.0, help="Attempts a second.")
@click.option("--markets", default=20)
@click.option("--hosts", default=0, help="Addresses that they come from; 0: one.")
def main(rounds: int, seconds: float, rate: float, markets: int, hosts: int) -> None:
    """Print quantiles, their ratios, and the CPU of each of the aggregator's threads as JSON."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    sides: dict[bool, list[list[float]]] = {False: [], True: []}
    cpu: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    turned_away = 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running, keys = stack.enter_context(world(folder, markets))
        pid = running.pid("aggregator")
        reader = Reader(running.publish, keys)
        stack.callback(reader.close)
        loose = stack.enter_context(intruders(running, keys.server, rate, hosts))
        reader.read(3.0)
        for number in range(2 * rounds + 1):
            is_attack = number % 2 == 1
            for one in loose:
                one.send_signal(signal.SIGCONT if is_attack else signal.SIGSTOP)
            reader.read(0.3)
            used, before = threads(pid), refused(running)
            sides[is_attack].append(reader.read(seconds))
            spent = threads(pid)
            spent.subtract(used)
            cpu[is_attack].update(spent)
            turned_away += (refused(running) - before) * is_attack
    report: dict[str, Any] = {"load": os.getloadavg(), "hosts": hosts}
    report["refused_per_s"] = round(turned_away / rounds / seconds)
    report |= compared(sides[False], sides[True])
    for name, side, number in (("quiet", False, rounds + 1), ("attack", True, rounds)):
        shares = {thread: round(s / number / seconds, 3) for thread, s in cpu[side].items()}
        report[f"cpu_{name}"] = {thread: share for thread, share in shares.items() if share}
    click.echo(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
