"""Put a load, a collector and a listener together, each in processes of its own."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from bench.use import family
from shards.runtime.realtime import of, take
from tests.system.running import Running, collector, eventually

_ROOT: Final = Path(__file__).parents[1]
PATIENT: Final = "[limits]\nmute_floor_s = 30.0\n"
"""The feeder is silent while it prepares a flood; that time must not count."""
_FIRST: Final = 10
"""A real-time priority above those of the collector."""


class Child:
    """A process of a bench's own that answers lines with lines of JSON."""

    def __init__(self, module: str, *arguments: str, priority: int = 0) -> None:
        """``priority`` is its real-time priority, from 1; 0: it is scheduled normally."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
        )
        if priority:
            # Before it has started any thread: they inherit it.
            take(priority, self.process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def read(self) -> Any:
        """Read one answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"{self.process.args!r} ended with {self.process.wait()}"
        return msgspec.json.decode(line)

    def ask(self, line: bytes) -> Any:
        """Send a line and read its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()
        return self.read()


class Feeder(Child):
    """A running `bench.feeder`."""

    def __init__(self, *, goes_first: bool = False, **options: Any) -> None:
        """``goes_first`` schedules it before everything else, as if it had a machine of its own."""
        command = ("bench.feeder", msgspec.json.encode(options).decode())
        super().__init__(*command, priority=_FIRST if goes_first else 0)
        self.info = self.read()
        self.endpoints: dict[str, str] = self.info["endpoints"]
        self.markets: list[dict[str, Any]] = self.info["markets"]

    def do(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Give a command."""
        answer: dict[str, Any] = self.ask(msgspec.json.encode({"do": what} | arguments))
        return answer

    def steady(self, updates_per_s: float) -> None:
        """Change every book in every block, at this many updates a second; 0 for idle."""
        if updates_per_s:
            self.do("pace", block_s=len(self.markets) / updates_per_s, touched=1.0)
        else:
            self.do("pace", block_s=0.65, touched=0.0)

    def config(self, folder: Path, extra: str = PATIENT) -> Path:
        """Write a configuration file that points here."""
        network = {name: [endpoint] for name, endpoint in self.endpoints.items()}
        names = ("chain_ws", "chain_stream", "chain_grpc", "rpc")
        lines = [
            f"{name} = {msgspec.json.encode(network[name]).decode()}\n"
            for name in names
            if name in network
        ]
        path = folder / "collector.toml"
        path.write_text("[network]\n" + "".join(lines) + extra)
        return path


class Listener(Child):
    """A running `bench.listener`."""

    def __init__(self, endpoint: str, *, times: str = "", goes_first: bool = False) -> None:
        """
        ``times`` is empty, ``times`` (of blocks) or ``each`` (of updates too).

        ``goes_first`` schedules it before a collector in real time, which takes all cores in a flood: it does
        not fetch again what a publisher drops for readers that fall 20,000 frames behind.
        """
        command = ("bench.listener", endpoint, *([times] if times else []))
        super().__init__(*command, priority=_FIRST if goes_first else 0)

    def mark(self) -> dict[str, Any]:
        """Return what came since the last mark."""
        answer: dict[str, Any] = self.ask(b"mark")
        return answer


class Bench:
    """All of it, running and live."""

    def __init__(self, feeder: Feeder, running: Running, listener: Listener) -> None:
        self.feeder = feeder
        self.collector = running
        self.listener = listener

    def pids(self) -> dict[str, int]:
        """Name the processes: the collector's, and the listener."""
        return family(self.collector.process.pid) | {"listener": self.listener.pid}


@contextlib.contextmanager
def live(
    load: Feeder,
    *,
    shards: int = 1,
    source: str = "chain-ws",
    times: str = "",
    extra: str = PATIENT,
    options: tuple[str, ...] = (),
    goes_first: bool = False,
) -> Iterator[Bench]:
    """
    Start a collector and a listener, and wait until all markets are live.

    ``goes_first``: the listener does, if the collector runs in real time (`Listener`).
    """
    with tempfile.TemporaryDirectory(prefix="b-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        load.steady(0)
        config = ("--network", "local", "--config", str(load.config(folder, extra)))
        start = (*config, "--source", source, "--shards", str(shards), *options)
        running = stack.enter_context(collector(folder, *start))
        running.await_live(60.0)
        is_realtime = of(running.pid("aggregator")) == "realtime"
        reader = Listener(running.publish, times=times, goes_first=is_realtime and goes_first)
        listener = stack.enter_context(reader)
        # One block reaches it: it is subscribed.
        load.do("pace", block_s=0.1, touched=1.0)
        eventually(lambda: listener.mark()["books"], within_s=20.0, what="a first frame")
        load.steady(0)
        yield Bench(load, running, listener)


@contextlib.contextmanager
def bench(
    *,
    shards: int = 1,
    source: str = "chain-ws",
    times: str = "",
    extra: str = PATIENT,
    **feeder: Any,
) -> Iterator[Bench]:
    """Start everything, the feeder too."""
    with (
        Feeder(**feeder) as load,
        live(load, shards=shards, source=source, times=times, extra=extra) as running,
    ):
        yield running
