"""
How the processes of a run are scheduled: what was asked for, and what the system allows.

Only shards and aggregator, the data path, run in real time. The coordinator is in real time only
while it checks its children, so that it can end one that keeps a core. Its other work would delay
frames, so it runs at normal priority.
"""

import contextlib
import logging
import os
from collections.abc import Collection, Iterator
from typing import Any, Final

from collector.control.launch import Launch, Process, Target
from collector.settings.parts import Cpus, ProcessSettings
from collector.settings.wording import plural
from shards.protocol.errors import ConfigError
from shards.runtime import realtime
from shards.runtime.child import Heartbeat

log = logging.getLogger(__name__)

HOW_TO: Final = (
    "allow it with LimitRTPRIO=3 (systemd), --ulimit rtprio=3 (a container) or CAP_SYS_NICE"
)


class Scheduling:
    """The priorities and processors of one run's processes."""

    def __init__(self, asked: ProcessSettings) -> None:
        """
        Determine what the system allows, and log it.

        Raises:
            ConfigError: If real time is required but not allowed, or a processor is not available.

        """
        self._cpus = asked.cpus
        self._all = _available()
        _check(asked.cpus, self._all)
        refused = "" if asked.priority == "normal" else refusal()
        if refused and asked.priority == "realtime":
            raise ConfigError(
                f'processes.priority is "realtime", and the system refuses it: {refused}; {HOW_TO}'
            )
        self.is_realtime = asked.priority != "normal" and not refused
        """Whether shards and aggregator run in real time."""
        log.info("%s", self._said(refused))
        if asked.cpus.others:
            # A devnet of our own inherits it.
            os.sched_setaffinity(0, asked.cpus.others)

    def _said(self, refused: str) -> str:
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


def _available() -> frozenset[int]:
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
