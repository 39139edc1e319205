"""
Twice the saturating load, for minutes, and the recovery afterwards.

The shards get a fraction of a core, so that the rest of the machine can produce twice what they can
process. Then the node's queue fills, it silently drops the subscriptions, and blocks are lost. All
lost blocks must be counted, announced, and finally replayed.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, TypeAlias

import msgspec

from bench import rig, sides
from bench.rig import Bench
from bench.throttle import throttled
from bench.use import memory

SHARE: Final = 0.2
"""With less the supervisor takes a shard for stuck: a second's work takes half a minute."""
_HEAL_S: Final = 900.0
_SLACK_MB: Final = 8.0
_FEWEST_READINGS: Final = 20
"""In the first seconds of a flood every buffer fills: that is not growth."""


class Overload(msgspec.Struct):
    """The result of one overload."""

    saturated_at: float
    asked: float
    """Twice that; `offered` is what the feeder managed to produce."""
    offered: float = 0.0
    taken: float = 0.0
    pss_mb: dict[str, list[float]] = {}
    dropped: int = 0
    replayed: int = 0
    gaps_opened: int = 0
    missing: int = 0
    completeness: float = 0.0
    coverage: float = 0.0
    lost_by_subscriber: int = 0
    evicted: int = 0
    restarts: int = 0
    healed_s: float = -1.0
    """From the end of the load; negative if not in time."""

    def growth_mb(self) -> dict[str, float]:
        """Return by how much each process's second half lies above its first; too short a run has none."""
        return {
            name: round(max(row[len(row) // 2 :]) - max(row[: len(row) // 2]), 1)
            for name, row in self.pss_mb.items()
            if len(row) >= _FEWEST_READINGS
        }

    def failures(self) -> list[str]:
        """Return what did not go as designed."""
        found = [
            f"memory of {name} grew by {mb} MB"
            for name, mb in self.growth_mb().items()
            if mb > _SLACK_MB and name not in ("feeder", "listener")
        ]
        if self.restarts:
            found.append(f"{self.restarts} processes were restarted")
        if (self.dropped or self.replayed) and not self.gaps_opened:
            found.append("frames or blocks were lost and nothing announced it")
        if self.healed_s < 0:
            found.append(
                f"not whole again: coverage {self.coverage}, completeness {self.completeness}"
            )
        return found

    def said(self) -> str:
        """Describe it in some lines."""
        pss = ", ".join(f"{n} {min(r):.0f} to {max(r):.0f}" for n, r in self.pss_mb.items() if r)
        return (
            f"saturated at {self.saturated_at:,.0f}/s; asked {self.asked:,.0f}/s, offered "
            f"{self.offered:,.0f}/s, took {self.taken:,.0f}/s\nPSS MB: {pss}; growth of the second half {self.growth_mb()}\n"
            f"subscriptions dropped by the node {self.evicted}, frames dropped by shards "
            f"{self.dropped}, blocks replayed {self.replayed}, missing {self.missing}, "
            f"gaps opened {self.gaps_opened}, lost by the subscriber {self.lost_by_subscriber}\n"
            f"restarts {self.restarts}; whole again after {self.healed_s:.1f} s: coverage "
            f"{self.coverage}, completeness {self.completeness}"
        )


Start: TypeAlias = Callable[[str], AbstractContextManager[Bench]]
"""Starts a collector with additional tables of configuration."""


def overload(
    start: Start,
    minutes: float,
    *,
    share: float = SHARE,
    process: str = "shard",
    every_s: float = 5.0,
    flood: int = 12,
) -> Overload:
    """Throttle the shards, find the saturating load, offer twice that, and watch."""
    with start(rig.PATIENT) as b, throttled(named(b, process), share):
        saturated = sides.Side(b.feeder, b.pids, b.listener.mark).flood(flood)
    result = Overload(saturated, 2 * saturated)
    with start("") as b:
        pids = b.pids()
        with throttled(named(b, process), share):
            _press(b, result, minutes, every_s)
        _heal(b, result)
        result.restarts = len(set(pids.values()) ^ set(b.pids().values()))
    return result


def named(b: Bench, process: str) -> list[int]:
    """Return the pids of the processes that are throttled."""
    return [pid for name, pid in b.pids().items() if name.startswith(process)]


def _press(b: Bench, result: Overload, minutes: float, every_s: float) -> None:
    b.feeder.steady(result.asked)
    b.listener.mark()
    began = time.monotonic()
    taken = made = 0
    while time.monotonic() - began < minutes * 60:
        time.sleep(min(every_s, minutes * 60))
        for name, pid in (b.pids() | {"feeder": b.feeder.pid}).items():
            if name != "resource tracker":
                result.pss_mb.setdefault(name, []).append(round(memory(pid).pss, 1))
        heard = b.listener.mark()
        made += sum(n for _, _, n in b.feeder.do("marks")["marks"])
        taken += heard["updates"]
        result.lost_by_subscriber += heard["lost"]
    seconds = time.monotonic() - began
    result.taken, result.offered = taken / seconds, made / seconds
    result.evicted = b.feeder.do("stats")["evicted"]
    b.feeder.steady(0)


def _heal(b: Bench, result: Overload) -> None:
    """Wait until everything is whole, or time is up; note the final state."""
    began = time.monotonic()
    while time.monotonic() - began < _HEAL_S:
        status: dict[str, Any] = b.collector.status()
        if status:
            result.coverage = status["coverage"]["now"]
            result.completeness = status["completeness"]
            result.dropped = status["frames"]["dropped"]
            result.gaps_opened = status["gaps"]["opened"]
            result.replayed, result.missing = (
                status["blocks"]["replayed"],
                status["blocks"]["missing"],
            )
            if result.coverage == 1.0 and result.completeness == 1.0 and not status["gaps"]["open"]:
                result.healed_s = time.monotonic() - began
                return
        time.sleep(0.5)
