"""Bursts and floods for a running collector, and what they cost."""

import time
from typing import Any, Final, NamedTuple

from bench.rig import Bench
from bench.rows_load import latency_ms
from bench.use import CpuClock, memory

_PATIENCE_S: Final = 3.0
_QUIET_S: Final = 0.3
"""More than the blocks of the start are apart."""
_spent_s = [0.0]


def load_clock() -> float:
    """
    Return how many seconds all loads of this process have taken so far.

    The timer of these benches: a round counts from its first byte sent to its last frame received,
    without the making of its blocks and without the wait for the listener's answer.
    """
    return _spent_s[0]


def spent(seconds: float) -> None:
    """Let the clock go on."""
    _spent_s[0] += seconds


class Size(NamedTuple):
    """How large a collector is."""

    markets: int
    shards: int

    def __str__(self) -> str:
        return f"{self.markets}-markets-{self.shards}-shards"


class Loaded:
    """A running collector that gets loads, and what came out of it so far."""

    def __init__(self, size: Size, bench: Bench) -> None:
        self.size = size
        self.bench = bench
        self.begin()

    def begin(self) -> None:
        """Count from here on, once the blocks of the start have all arrived."""
        while True:
            self.bench.listener.mark()
            time.sleep(_QUIET_S)
            if not self.bench.listener.mark()["updates"]:
                break
        self._rounds = self._sent = self._received = self._lost = 0
        self._latency: dict[int, int] = {}
        self._cpu = CpuClock(self._pids())
        self._before = self._counts()

    def send(self, blocks: int) -> None:
        """Send blocks that change every book, as fast as the socket takes them, until all is out."""
        feeder, listener = self.bench.feeder, self.bench.listener
        listener.mark()
        sent = feeder.do("flood", blocks=blocks)
        updates, last = 0, sent["first"]
        deadline = time.monotonic() + _PATIENCE_S
        while updates < sent["updates"] and time.monotonic() < deadline:
            heard = listener.mark()
            if heard["updates"]:
                updates, last = updates + heard["updates"], heard["last"]
                deadline = time.monotonic() + _PATIENCE_S
                self._lost += heard["lost"]
                for bucket, number in heard["latency"]:
                    self._latency[bucket] = self._latency.get(bucket, 0) + number
            time.sleep(0.02)
        self._rounds += 1
        self._sent += sent["updates"]
        self._received += updates
        spent((last - sent["first"]) / 1e9)

    def found(self) -> dict[str, Any]:
        """Return what the loads since `begin` cost, for ``extra_info``."""
        at = latency_ms(self._latency.items())
        dropped, gaps = self._counts()
        updates = max(1, self._received)
        return {
            "markets": self.size.markets,
            "shards": self.size.shards,
            "updates": self._sent // max(1, self._rounds),
            "not_received": self._sent - self._received,
            "latency_p50_ms": round(at(0.5), 3),
            "latency_p99_ms": round(at(0.99), 3),
            "cpu_us_per_update": {
                name: round(s * 1e6 / updates, 2) for name, s in self._cpu.read().items()
            },
            "pss_mb": {name: round(memory(pid).pss, 1) for name, pid in self._pids().items()},
            "frames_dropped": dropped - self._before[0],
            "gaps_opened": gaps - self._before[1],
            "lost_by_subscriber": self._lost,
        }

    def _pids(self) -> dict[str, int]:
        return {n: pid for n, pid in self.bench.pids().items() if n != "resource tracker"}

    def _counts(self) -> tuple[int, int]:
        status = self.bench.collector.status()
        return status["frames"]["dropped"], status["gaps"]["opened"]
