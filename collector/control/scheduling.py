"""
How the processes of a run are scheduled: what was asked for, and what the system allows.

Only shards and aggregator, the data path, run in real time. The coordinator is in real time only
while it checks its children, so that it can end one that keeps a core. Its other work would delay
frames, so it runs at normal priority.

Processes that spin are scheduled normally: in real time one that never sleeps would keep its
processor from everything else until the kernel stops it. They get processors of their own by the
rule in `lacking` instead.
"""

import contextlib
import logging
import math
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.control.launch import Launch, Process, Target
from collector.settings.parts import Cpus, ProcessSettings, Supervision
from collector.settings.wording import plural
from shards.protocol.errors import ConfigError
from shards.runtime import realtime
from shards.runtime.child import Heartbeat

log = logging.getLogger(__name__)

HOW_TO: Final = (
    "allow it with LimitRTPRIO=3 (systemd), --ulimit rtprio=3 (a container) or CAP_SYS_NICE"
)


CONTRADICTION: Final = (
    'processes.priority is "realtime" and processes.spin is true: a process in real time that never '
    "sleeps would take its processor from everything else; leave out one of the two"
)


class Scheduling:
    """The priorities and processors of one run's processes."""

    def __init__(self, asked: ProcessSettings, shards: int) -> None:
        """
        Determine what the system allows to this number of shards, and log it.

        Raises:
            ConfigError: If real time is required but not allowed, a processor is not available, or
                there are too few for processes that spin.

        """
        self._cpus = asked.cpus
        self._all = available()
        _check(asked.cpus, self._all)
        self.spins = asked.spin
        """Whether shards and aggregator poll instead of sleeping."""
        if asked.spin and asked.priority == "realtime":
            raise ConfigError(CONTRADICTION)
        self.check_shards(shards)
        refused = "" if asked.priority == "normal" or asked.spin else refusal()
        if refused and asked.priority == "realtime":
            raise ConfigError(
                f'processes.priority is "realtime", and the system refuses it: {refused}; {HOW_TO}'
            )
        self.is_realtime = asked.priority != "normal" and not asked.spin and not refused
        """Whether shards and aggregator run in real time."""
        log.info("%s", self._said(refused))
        if asked.cpus.others:
            # A devnet of our own inherits it.
            os.sched_setaffinity(0, asked.cpus.others)

    def check_shards(self, number: int) -> None:
        """
        Check that the processors suffice for this number of shards.

        Raises:
            ConfigError: If shards and aggregator spin, and they do not.

        """
        if self.spins and (missing := lacking(self._cpus, self._all, number, quota())):
            raise ConfigError(missing)

    def limits(self, given: Supervision) -> Supervision:
        """Return these limits; the CPU of a process that spins says nothing about its load."""
        return msgspec.structs.replace(given, cpu_budget_percent=math.inf) if self.spins else given

    def _said(self, refused: str) -> str:
        if self.spins:
            return "shards and aggregator spin at normal priority: each keeps a processor busy"
        if self.is_realtime:
            return "shards and aggregator run in real time"
        return "shards and aggregator run at normal priority" + (
            f": real time is refused ({refused}); {HOW_TO}" if refused else ""
        )

    @property
    def shard(self) -> int:
        """The real-time priority of a shard; 0: normal."""
        return realtime.SHARD if self.is_realtime else 0

    @property
    def aggregator(self) -> int:
        """The real-time priority of the aggregator; 0: normal."""
        return realtime.AGGREGATOR if self.is_realtime else 0

    def placing(self, launch: Launch) -> Launch:
        """Return a launch that sets each process's processors before it has any other thread."""

        def placed(name: str, target: Target, config: Any) -> tuple[Process, Heartbeat]:
            process, beat = launch(name, target, config)
            if process.pid and (cpus := self._cpus_of(name)):
                with contextlib.suppress(OSError):  # it has ended already
                    os.sched_setaffinity(process.pid, cpus)
            return process, beat

        return placed

    def _cpus_of(self, name: str) -> Collection[int]:
        """Return the processors for a process; empty if it may run on any."""
        if name == "aggregator":
            given = self._cpus.aggregator
        elif name.startswith("shard "):
            given = self._cpus.shards
        else:
            return self._cpus.others
        # A new interpreter would inherit the coordinator's processors.
        return given or (self._all if self._cpus.others else ())

    @contextlib.contextmanager
    def urgent(self) -> Iterator[None]:
        """Run the block at a priority above all children: to wait for them and check them."""
        if not self.is_realtime:
            yield
            return
        _take(realtime.SUPERVISOR)
        try:
            yield
        finally:
            _take(0)


def _take(priority: int) -> None:
    # The right may be revoked while we run: then the children are checked at normal priority.
    with contextlib.suppress(OSError):
        realtime.take(priority, inherited=False)


def refusal() -> str:
    """Return why the system does not allow us real time; empty if it does."""
    try:
        realtime.take(realtime.SUPERVISOR, inherited=False)
        realtime.take(0)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def lacking(cpus: Cpus, available: Collection[int], shards: int, quota: float = math.inf) -> str:
    """
    Return which processors are missing for this number of shards to spin; empty if none are.

    Whatever spins keeps a processor busy. ZeroMQ's own threads, which carry its frames, need another
    one, and so does everything else. ``quota`` is what a container may use, in processors.
    """
    of_shards = set(cpus.shards or available)
    of_aggregator = set(cpus.aggregator or available)
    said = plural(shards, "shard")
    for spinning, number, given, key in (
        (said, shards, of_shards, "shards"),
        ("the aggregator", 1, of_aggregator, "aggregator"),
        (f"{said} and the aggregator", shards + 1, of_shards | of_aggregator, ""),
    ):
        needs = (
            f"processes.spin: {spinning} would keep {plural(number, 'processor')} busy, and one more "
            "is needed for all other threads; "
        )
        if len(given) <= number:
            place = f"processes.cpus.{key} names" if key and getattr(cpus, key) else "there are"
            return f"{needs}{place} {len(given)}"
        if quota < number + 1:
            return f"{needs}the control group (cpu.max) allows {quota:.3g}"
    return ""


def quota(root: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> float:
    """Return how many processors our control group and those above it allow; inf without a limit."""
    allowed = math.inf
    with contextlib.suppress(OSError, ValueError):
        lines = process.read_text().splitlines()
        ours = next((line for line in lines if line.startswith("0::")), "0::/")
        inner = root / ours.removeprefix("0::").strip("/")
        for folder in (inner, *inner.parents):
            limit = folder / "cpu.max"
            if folder.is_relative_to(root) and limit.exists():
                most, _, period = limit.read_text().strip().partition(" ")
                if most != "max":
                    allowed = min(allowed, int(most) / int(period))
    return allowed


def available() -> frozenset[int]:
    """Return the processors that this process may use; none where that is not known."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except AttributeError:
        # Not on macOS, which cannot place processes either.
        return frozenset()


def _check(cpus: Cpus, available: Collection[int]) -> None:
    for kind in Cpus.__struct_fields__:
        missing = sorted(set(getattr(cpus, kind)) - set(available))
        if missing:
            numbers = (
                ", ".join(map(str, sorted(available))) or "none: this system places no processes"
            )
            raise ConfigError(
                f"processes.cpus.{kind} names {plural(len(missing), 'processor')} that the collector "
                f"may not use: {', '.join(map(str, missing))}; it may use {numbers}"
            )
