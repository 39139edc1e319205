"""
A cluster on three hosts (hosts.py), each with its own Ray, for tests: booted, asked, ended.

Its cells collect a simulated exchange that is outside.
"""

import contextlib
import re
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import psutil

from collector.client.requests import Refused, RequestClient
from collector.settings.parts import requests_endpoint
from tests.simulator.client import Simulator
from tests.system.hosts import HERE, NET, Host
from tests.system.running import COLLECTOR, eventually

PARTS: Final = 3
REPLICAS: Final = 2
ROOM: Final = 4
PORT: Final = 5590
_HEAD: Final = f"{NET}.1:6700"
_FOLDER: Final = f"{HERE}/cluster"
_STATUS: Final = (*COLLECTOR, "cluster", "status", "--json", "--folder", _FOLDER)


class Cluster:
    """The hosts, and what is started on them."""

    def __init__(self, folder: Path, exchange: Simulator, *, clocks: bool) -> None:
        self.folder = folder
        self.parts = PARTS
        self.options: tuple[str, ...] = ()
        """More options of `collector start`."""
        self._askers = ThreadPoolExecutor(3 * ROOM)
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
            ("--listen", _HEAD, "--parts", str(self.parts), "--replicas", str(REPLICAS))
            if host is self.hosts[0]
            else ("--address", _HEAD)
        )
        token = ("--token", f"{_FOLDER}/ray.token", "--room", str(ROOM), "--folder", _FOLDER)
        cells = ("--", "--config", f"{HERE}/collector.toml", "--insecure", *self.options)
        if host is not self.hosts[0]:
            cells = ()
        return host.start(
            [*COLLECTOR, "cluster", "up", *of_head, *token, *cells],
            self.folder / f"up-{host.number}.log",
        )

    def replicas(self) -> Counter[str]:
        """Ask every cell that may exist, all at once; count the complete ones of each part."""
        up = [host for host in self.hosts if host.is_up and not host.is_cut]
        doors = [
            (host.number, f"tcp://{host.address}:{PORT + 2 * slot}")
            for host in up
            for slot in range(ROOM)
        ]
        parts = self._askers.map(lambda door: _part_at(door[1]), doors)
        # A part counts once on each host.
        held = {(host, part) for (host, _), part in zip(doors, parts, strict=True) if part}
        return Counter(part for _, part in held)

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

    def await_whole(self, within_s: float) -> tuple[float, int]:
        """Wait until it is whole; return how long that took, and the fewest replicas on the way."""
        began, fewest = time.monotonic(), PARTS * REPLICAS

        def is_whole() -> bool:
            nonlocal fewest
            found = self.replicas()
            wanted = [min(found[f"{n}/{self.parts}"], REPLICAS) for n in range(1, self.parts + 1)]
            fewest = min(fewest, sum(wanted))
            return sum(wanted) == self.parts * REPLICAS

        eventually(is_whole, within_s=within_s, what=self.trouble)
        return time.monotonic() - began, fewest

    def await_all_in(self, within_s: float) -> float:
        """
        Wait until every host is Ray's again, and no cell too many runs; return how long that took.

        Only then the next fault is the only one.
        """
        began = time.monotonic()

        def all_in() -> bool:
            return all(map(_is_rays, self.hosts)) and self.hosts[0].started("ray::Manager") > 0

        def no_surplus() -> bool:
            return sum(self.replicas().values()) == self.parts * REPLICAS

        eventually(all_in, within_s=within_s, every_s=0.5, what=self.trouble)
        eventually(no_surplus, within_s=within_s, every_s=0.5, what=self.trouble)
        return time.monotonic() - began

    def trouble(self) -> str:
        """Print the state."""
        logs = [path.read_text()[-600:] for path in sorted(self.folder.glob("up-*.log"))]
        found = f"two replicas of each part; there are {self.replicas()}"
        try:
            logs.append(self.hosts[0].tried(_STATUS, 60).stdout)
        except subprocess.TimeoutExpired:
            logs.append("no answer to 'cluster status'")
        return "\n".join([found, *logs])

    def end(self) -> None:
        """Kill all hosts."""
        for host in self.hosts:
            host.crash()
        self._askers.shutdown()


def exchange_config(exchange: Simulator) -> str:
    """Return the configuration of every cell: the exchange is outside."""

    def outside(url: str) -> str:
        return url.replace("127.0.0.1", f"{NET}.254")

    return (
        f'[network]\nchain_ws = ["{outside(exchange.ws)}"]\n'
        f'chain_stream = ["{outside(exchange.stream)}"]\n'
        f'chain_grpc = ["{outside(exchange.grpc)}"]\nrpc = ["{outside(exchange.rpc)}"]\n'
    )


def ports_of(exchange: Simulator) -> set[int]:
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


def _is_rays(host: Host) -> bool:
    """Whether a host is in Ray: its agent is one of its present Ray."""
    since = host.started("raylet/raylet ")
    return 0 < since <= host.started("ray::HostAgent") and host.started("collector: keeper") > 0


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
