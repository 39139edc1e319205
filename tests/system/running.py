"""Start a devnet or a collector as a user does, ask it for its state, and leave nothing behind."""

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import psutil

from collector.access.key_files import Keys
from collector.client.requests import RequestClient
from collector.settings.parts import requests_endpoint

_T = TypeVar("_T")

COLLECTOR: Final = (sys.executable, "-m", "collector")


def eventually(
    condition: Callable[[], _T],
    *,
    within_s: float,
    every_s: float = 0.05,
    what: str | Callable[[], object] = "",
) -> _T:
    """Wait for something true and return it; fail at the deadline, saying what was awaited."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            said = what() if callable(what) else what or condition.__doc__
            raise AssertionError(f"not within {within_s} s: {said}")
        time.sleep(every_s)
    return found


def at_best(measure: Callable[[], float], *, below: float, tries: int = 3) -> float:
    """
    Measure a duration that must be short; measure again, and once more, if it was not.

    A busy machine is slow now and then, a fault in the program every time.
    """
    found: list[float] = []
    while len(found) < tries and (not found or found[-1] >= below):
        found.append(measure())
    assert min(found) < below, f"{found}: never below {below}"
    return min(found)


_KEPT: Final = contextlib.ExitStack()
"""Sockets that keep the ports we gave out: others may listen there, but are not given them."""
atexit.register(_KEPT.close)


def free_port_pair(pairs: int = 1) -> int:
    """
    Return a port that is free, and so is the next one: frames, then requests; or so many pairs.

    As long as we run, whoever asks for any free port (another worker's tests) gets others.
    """
    while True:
        with contextlib.ExitStack() as stack:
            port = _bound(stack, 0)
            with contextlib.suppress(OSError, OverflowError):
                for following in range(1, 2 * pairs):
                    _bound(stack, port + following)
                if sys.platform == "linux":  # elsewhere nobody else could listen there
                    _KEPT.push(stack.pop_all())
                return port


def _bound(stack: contextlib.ExitStack, port: int) -> int:
    sock = stack.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return int(sock.getsockname()[1])


def _name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


class Devnet:
    """A running `collector devnet`."""

    def __init__(self, process: "subprocess.Popen[bytes]", info: dict[str, Any]) -> None:
        self.process = process
        self.info = info
        self.rpc: str = info["endpoints"]["rpc"]
        self.grpc: str = info["endpoints"]["chain_grpc"]
        self.stream: str = info["endpoints"]["chain_stream"]
        self.ws: str = info["endpoints"]["chain_ws"]
        self.markets: list[dict[str, Any]] = info["markets"]

    def restart_node(self) -> None:
        """Have the node stopped and started again, and wait until it makes blocks."""
        former = self.node()
        self.process.send_signal(signal.SIGUSR1)
        eventually(lambda: self.node() not in (0, former), within_s=120, what="another node")
        eventually(lambda: self._height() > 1, within_s=120, every_s=0.2, what="blocks again")

    def node(self) -> int:
        """Return the node's process id; 0 while there is none."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        found = (child.pid for child in family if _name_of(child).startswith("injectived"))
        return next(found, 0)

    def _height(self) -> int:
        try:
            with urllib.request.urlopen(f"{self.rpc}/status", timeout=20) as answer:
                return int(json.load(answer)["result"]["sync_info"]["latest_block_height"])
        except (OSError, ValueError):
            return 0

    def config(self, folder: Path, *, ws: str = "", extra: str = "") -> Path:
        """Write a configuration file that points at this node, its WebSocket perhaps elsewhere."""
        path = folder / "collector.toml"
        path.write_text(self.config_text(ws=ws, extra=extra))
        return path

    def config_text(self, *, ws: str = "", extra: str = "") -> str:
        """Spell a configuration that points at this node."""
        return (
            f'[network]\nchain_ws = ["{ws or self.ws}"]\nchain_stream = ["{self.stream}"]\n'
            f'chain_grpc = ["{self.grpc}"]\nrpc = ["{self.rpc}"]\n{extra}'
        )


@contextlib.contextmanager
def devnet(*options: str) -> Iterator[Devnet]:
    """Run a devnet for the length of the block."""
    with subprocess.Popen(
        [*COLLECTOR, "devnet", "--json", "--stop-with-stdin", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"the devnet ended with {process.wait()}"
            yield Devnet(process, json.loads(line))
        finally:
            process.terminate()
            process.wait(90)


class Running:
    """A running `collector start`."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        publish: str,
        log: Path,
        temporary: Path,
        keys: Keys | None = None,
    ) -> None:
        self.process = process
        self.temporary = temporary
        """The folder of its temporary files, used by it alone."""
        self.state = log.parent / "state"
        """Where what outlives it is, unless it was started with another environment."""
        self.publish = publish
        self._log = log
        self._requests = RequestClient(requests_endpoint(publish), keys)

    def leftovers(self) -> list[str]:
        """List the temporary files that are still there."""
        return [str(path) for path in self.temporary.rglob("*")][:20]

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        return self._log.read_text(errors="replace")

    def status(self) -> dict[str, Any]:
        """Return the summary; an aggregator that is being replaced, or waits for a core, is awaited."""
        found: dict[str, Any] = self._answer("status")["status"]
        return found

    def peek(self) -> dict[str, Any]:
        """Ask for the summary once; empty without an answer."""
        found: dict[str, Any] = self._ask("status").get("status", {})
        return found

    def _ask(self, what: str) -> dict[str, Any]:
        try:
            return self._requests.ask(what, within_s=1.5)
        except TimeoutError:
            return {}

    def _answer(self, what: str) -> dict[str, Any]:
        return eventually(
            lambda: self._ask(what),
            within_s=30,
            what=lambda: f"an aggregator that answers; log:\n{self.log}",
        )

    def markets(self) -> list[dict[str, Any]]:
        """Ask for every market with its state."""
        rows: list[dict[str, Any]] = self._answer("markets")["markets"]
        return rows

    def journal(self) -> list[dict[str, Any]]:
        """Ask for what the journal keeps."""
        entries: list[dict[str, Any]] = self._answer("events")["events"]
        return entries

    def pid(self, name: str) -> int:
        """
        Wait for the process id of ``shard 0`` or ``aggregator``, and return it.

        Never 0, which is known for a moment while nobody answers: a signal to it would go to all
        processes of this test run.
        """

        def known() -> int:
            processes = self.peek().get("processes", [])
            return next((int(p["pid"]) for p in processes if p["name"] == name), 0)

        return eventually(known, within_s=30.0, what=lambda: f"a process {name}; log:\n{self.log}")

    def live(self) -> bool:
        """Everything is live and accounted for."""
        return _is_live(self.peek())

    def await_live(self, within_s: float = 60.0) -> dict[str, Any]:
        """Wait until all markets are live; return the status."""

        def looked() -> dict[str, Any]:
            status = self.peek()
            return status if _is_live(status) else {}

        return eventually(
            looked, within_s=within_s, every_s=0.1, what=lambda: f"all live; log:\n{self.log}"
        )

    def await_accounted(self, height: int) -> dict[str, Any]:
        """Wait until the ledger has reached this height, and nothing is missing; return the status."""

        def looked() -> dict[str, Any]:
            status = self.peek()
            blocks = status.get("blocks", {"last": 0, "missing": 0})
            reached = _is_live(status) and blocks["last"] >= height and not blocks["missing"]
            return status if reached else {}

        return eventually(
            looked, within_s=30, what=lambda: f"block {height} accounted for; log:\n{self.log}"
        )

    def stop(self, number: int = signal.SIGTERM, within_s: float = 60.0) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def close(self) -> None:
        """Close the client's socket."""
        self._requests.close()


def _is_live(status: dict[str, Any]) -> bool:
    return bool(status) and status["coverage"]["now"] == 1.0 and not status["gaps"]["open"]


@contextlib.contextmanager
def collector(
    folder: Path,
    *options: str,
    stdout: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    publish: str = "",
    before: tuple[str, ...] = (),
    cwd: Path | None = None,
    python: str = sys.executable,
    keys: Keys | None = None,
) -> Iterator[Running]:
    """Run a collector for the length of the block, publishing on free ports of loopback."""
    publish = publish or f"tcp://127.0.0.1:{free_port_pair()}"
    log = folder / "collector.log"
    with (
        tempfile.TemporaryDirectory(prefix="t-") as temporary,
        log.open("wb") as stderr,
        subprocess.Popen(
            [*before, python, "-m", "collector", "start", "--publish", publish, *options],
            cwd=cwd,
            stdout=stdout or subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={
                **os.environ,
                "TMPDIR": temporary,
                "XDG_STATE_HOME": str(log.parent / "state"),
                **(env or {}),
            },
        ) as process,
    ):
        running = Running(process, publish, log, Path(temporary), keys)
        children = psutil.Process(process.pid)
        try:
            yield running
        finally:
            family = children.children(recursive=True) if process.poll() is None else []
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                for pid in [child.pid for child in family] + [process.pid]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            running.close()


def run(*arguments: str, within_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
    """Run a `collector` command to its end; one that publishes nowhere in particular: anywhere."""
    publish = f"tcp://127.0.0.1:{free_port_pair()}"
    return subprocess.run(
        [*COLLECTOR, *arguments],
        capture_output=True,
        text=True,
        timeout=within_s,
        stdin=subprocess.DEVNULL,
        check=False,
        env={"COLLECTOR_START_PUBLISH": publish} | os.environ,
    )


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Undo what a command that runs in this process does to the handlers of its signals."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def proven(*cells: Running) -> str:
    """Wait until the trade proofs of some parts add up; return what `status` says of all of them."""
    connect = ",".join(cell.publish for cell in cells)

    def said() -> str:
        return run("status", "--connect", connect).stdout

    return eventually(
        lambda: text if "blocks are here" in (text := said()) else "",
        within_s=90,
        every_s=1.0,
        what=said,
    )


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run."""
    return [process for process in processes if runs(process)]


def runs(process: psutil.Process) -> bool:
    """Say whether a process runs; it may end, and be reaped, between two looks at it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
