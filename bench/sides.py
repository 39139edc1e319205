"""The sides of a comparison, with one interface: us, the peers, the floor."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import msgspec

from bench import rig
from bench.rig import Child, Feeder
from bench.use import CpuClock, memory
from shards.runtime.realtime import SHARD
from tests.system.running import free_port_pair

LIBRARIES = ("coordinator", "resource")
_PATIENCE_S = 3.0
SETTLE_S = 1.0
"""Duration of a steady load before the measurement."""


class Stretch(msgspec.Struct):
    """The result of a period of steady load."""

    updates: int
    seconds: float
    cpu: dict[str, float]
    latency_us: list[float]
    """From the server's first byte of a block to the consumer, an update each; sorted."""
    report: dict[str, Any]
    marks: dict[int, int]

    def cpu_us(self, *names: str) -> float:
        """CPU per update, of all processes or of those whose names begin so."""
        spent = sum(s for name, s in self.cpu.items() if not names or name.startswith(names))
        return spent * 1e6 / max(1, self.updates)

    def quantile(self, q: float) -> float:
        """Return a quantile of the latency; 0 where it was not taken."""
        found = self.latency_us
        return found[min(len(found) - 1, int(q * len(found)))] if found else 0.0


class Side:
    """One side of a comparison, running."""

    def __init__(
        self, feeder: Feeder, pids: Callable[[], dict[str, int]], mark: Callable[[], Any]
    ) -> None:
        self.feeder = feeder
        self.pids = pids
        self.mark = mark
        """Say what came since the last mark: at least ``updates`` and ``last``."""

    def steady(self, rate: float, seconds: float, settle_s: float = 0.0) -> Stretch:
        """Load for a while and measure it, without the first part."""
        self.feeder.steady(rate)
        time.sleep(settle_s or SETTLE_S)
        self.feeder.do("marks")
        self.mark()
        clock = CpuClock(self.pids())
        began = time.monotonic()
        time.sleep(seconds)
        cpu = clock.read()
        elapsed = time.monotonic() - began
        report = self.mark()
        self.feeder.steady(0)
        marks = {height: at for height, at, _ in self.feeder.do("marks")["marks"]}
        latency = sorted(
            (at - marks[height]) / 1e3
            for height, n, at in report.get("seen", ())
            for _ in range(n)
            if height in marks
        )
        return Stretch(report["updates"], elapsed, cpu, latency, report, marks)

    def flood(self, blocks: int) -> float:
        """Send a number of blocks at once; return the output in updates per second."""
        return self.flooded(blocks)[0]

    def flooded(self, blocks: int) -> tuple[float, dict[str, float]]:
        """Return also the CPU per update of each process, in µs."""
        self.mark()
        clock = CpuClock(self.pids())
        sent = self.feeder.do("flood", blocks=blocks)
        updates, last = 0, sent["first"] + 1
        deadline = time.monotonic() + _PATIENCE_S
        while updates < sent["updates"] and time.monotonic() < deadline:
            report = self.mark()
            if report["updates"]:
                updates, last = updates + report["updates"], report["last"]
                deadline = time.monotonic() + _PATIENCE_S
            time.sleep(0.05)
        cpu = {name: s * 1e6 / max(1, updates) for name, s in clock.read().items()}
        return updates * 1e9 / (last - sent["first"]), cpu

    def pss(self) -> float:
        """Return the PSS of all its processes, in MB."""
        return sum(memory(pid).pss for pid in self.pids().values())


@contextlib.contextmanager
def ours(feeder: Feeder, *, priority: str = "normal", **options: Any) -> Iterator[Side]:
    """The collector, and a subscriber that does nothing; normally scheduled, as the other sides."""
    extra = f'{rig.PATIENT}[processes]\npriority = "{priority}"\n'
    with rig.live(feeder, extra=extra, **options) as b:
        yield Side(feeder, b.pids, b.listener.mark)


def _options(feeder: Feeder, **more: Any) -> str:
    known = {"markets": feeder.markets, "ws": feeder.endpoints["chain_ws"]}
    return msgspec.json.encode(known | feeder.endpoints | more).decode()


def has_sdk() -> bool:
    """Say whether injective-py is installed: it is on Python 3.11 and 3.12 only."""
    return find_spec("pyinjective") is not None


@contextlib.contextmanager
def peer(feeder: Feeder, name: str, **options: Any) -> Iterator[Side]:
    """One that hands updates to a callback in its own process."""
    with Child("bench.peer", name, _options(feeder, **options)) as child:
        child.read()
        until_heard(feeder, lambda: child.ask(b"mark"))
        yield Side(feeder, lambda: {name: child.pid}, lambda: child.ask(b"mark"))


@contextlib.contextmanager
def floor(
    feeder: Feeder, *, batched: bool = False, times: bool = False, realtime: bool = False
) -> Iterator[Side]:
    """The floor: a receiver, one hop, a sink."""
    module = ("bench.floor", "receive")
    with _hop(feeder, module, times=times, realtime=realtime, batched=batched) as side:
        yield side


@contextlib.contextmanager
def cryptofeed(feeder: Feeder) -> Iterator[Side]:
    """The floor's receiver before cryptofeed's publisher."""
    with _hop(feeder, ("bench.peer_cryptofeed",), subscribes=True) as side:
        yield side


@contextlib.contextmanager
def _hop(
    feeder: Feeder,
    module: tuple[str, ...],
    *,
    times: bool = False,
    subscribes: bool = False,
    realtime: bool = False,
    **options: Any,
) -> Iterator[Side]:
    endpoint = f"tcp://127.0.0.1:{free_port_pair()}"
    how = (*(["times"] if times else []), *(["sub"] if subscribes else []))
    priority = SHARD if realtime else 0
    with Child("bench.floor", "sink", endpoint, *how, priority=priority) as sink:
        sink.read()
        with Child(
            *module, _options(feeder, push=endpoint, **options), priority=priority
        ) as receiver:
            receiver.read()
            until_heard(feeder, lambda: sink.ask(b"mark"))
            pids = {"receiver": receiver.pid, "sink": sink.pid}
            yield Side(feeder, lambda: pids, lambda: sink.ask(b"mark"))


def until_heard(feeder: Feeder, mark: Callable[[], dict[str, Any]]) -> None:
    """Wait until updates of all markets arrive: everything is subscribed."""
    feeder.do("pace", block_s=0.1, touched=1.0)
    deadline = time.monotonic() + 30.0
    heard = 0
    while heard < 2 * len(feeder.markets):
        assert time.monotonic() < deadline, "no updates arrive"
        time.sleep(0.1)
        heard += mark()["updates"]
    feeder.steady(0)


def median(values: list[float]) -> float:
    """Return the median; 0 of nothing."""
    return statistics.median(values) if values else 0.0
