"""
Keep the processes alive: a pure plan, and a small loop that carries it out.

`plan` decides what to do with each child; `Supervisor` only does it. The heartbeat comes from
*inside* a child's event loop, so a stuck loop looks dead even while its threads run. Before a child
is killed it gets SIGABRT, on which it prints the stack where it is stuck.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import msgspec

from collector.control.launch import Launch, Process, Target, spawn, stand_somewhere
from collector.settings.parts import Supervision
from shards.protocol.errors import ConfigError
from shards.runtime.child import Heartbeat
from shards.runtime.exit_codes import EXIT_BUG, EXIT_CONFIG

log = logging.getLogger(__name__)

_LATE_S: Final = 3.0
"""We check twice a second; if this much time has passed, we were late ourselves."""


class ChildState(msgspec.Struct, frozen=True):
    """One child as input of the plan; instants are monotonic seconds."""

    name: str
    starts: tuple[float, ...] = ()
    """Its starts within the crash window, newest last."""
    running: bool = False
    exit_code: int | None = None
    exited_at: float = 0.0
    last_beat: float = 0.0
    """0 before the first."""
    aborted_at: float = 0.0
    retired_at: float = 0.0
    """When it was asked to end for good; 0 if never."""
    has_run: bool = False
    """Whether a process of it has beaten. What it cannot use now, a file or an address, could be used
    then, so that it is tried again."""


class Start(msgspec.Struct, frozen=True):
    """Start this child."""

    name: str


class Abort(msgspec.Struct, frozen=True):
    """Send SIGABRT, so that it prints where it is stuck."""

    name: str
    reason: str


class Kill(msgspec.Struct, frozen=True):
    """Send SIGKILL."""

    name: str


class Forget(msgspec.Struct, frozen=True):
    """It has ended as requested: remove it."""

    name: str


class GiveUp(msgspec.Struct, frozen=True):
    """Stop everything: it cannot run as configured."""

    name: str


Action: TypeAlias = Start | Abort | Kill | Forget | GiveUp


def plan(
    now: float, children: Iterable[ChildState], limits: Supervision, *, awake_since: float = 0.0
) -> list[Action]:
    """
    Decide what to do with each child, without doing it.

    ``awake_since`` is when we were last late ourselves, because all processes were stopped:
    silence is measured from there.
    """
    actions: list[Action] = []
    for child in children:
        if child.retired_at:
            if not child.running:
                actions.append(Forget(child.name))
            elif now >= child.retired_at + limits.retire_within_s:
                actions.append(Kill(child.name))
        elif not child.running:
            if child.exit_code == EXIT_CONFIG and not child.has_run:
                return [GiveUp(child.name)]
            if child.exit_code is None or now >= child.exited_at + restart_wait_s(child, limits):
                actions.append(Start(child.name))
        elif child.aborted_at:
            if now >= child.aborted_at + limits.abort_grace_s:
                actions.append(Kill(child.name))
        elif not child.last_beat:
            if now - max(child.starts[-1], awake_since) > limits.start_within_s:
                actions.append(Abort(child.name, "never became ready"))
        elif now - max(child.last_beat, awake_since) > limits.stall_after_s:
            actions.append(Abort(child.name, "its event loop is stuck"))
    return actions


def restart_wait_s(child: ChildState, limits: Supervision) -> float:
    """Return the delay between a child's end and its restart."""
    recent = sum(start > child.exited_at - limits.crash_window_s for start in child.starts)
    if recent >= limits.crash_loop:
        return limits.crash_loop_wait_s
    return float(min(limits.restart_cap_s, limits.restart_base_s * 2.0 ** max(0, recent - 1)))


class Child:
    """One supervised process; ``configure`` creates the configuration for each start."""

    def __init__(
        self,
        name: str,
        target: Target,
        configure: Callable[[], Any],
        *,
        shard: int | None = None,
    ) -> None:
        """``shard`` is its number, if it is a shard."""
        self.name = name
        self.shard = shard
        self.restarts = 0
        self.ended = ""
        """How its last process ended, as text."""
        self._target = target
        self._configure = configure
        self._process: Process | None = None
        self._beat: Heartbeat | None = None
        self._starts: list[float] = []
        self._end: tuple[int, float] | None = None
        """Exit code of its last process, and when that was seen; None while one runs."""
        self._aborted_at = 0.0
        self._retired_at = 0.0
        self._has_run = False

    @property
    def pid(self) -> int:
        """The process's id, 0 while there is none."""
        return (self._process.pid or 0) if self._process is not None else 0

    @property
    def sentinel(self) -> int | None:
        """A descriptor that becomes ready when the process ends."""
        return self._process.sentinel if self._process is not None else None

    def start(self, now: float, launch: Launch = spawn) -> None:
        """
        Start or restart it.

        Raises:
            ConfigError: If the first start fails.

        """
        is_first = not self._starts
        self.restarts += not is_first
        self._starts = [*self._starts[-20:], now]
        self._end = None
        self._aborted_at = 0.0
        try:
            stand_somewhere()
            self._process, self._beat = launch(self.name, self._target, self._configure())
        except OSError as error:
            self._process = None
            if is_first:
                raise ConfigError(f"cannot start {self.name}: {_system_says(error)}") from None
            # A start succeeded before, so the cause is temporary: memory, a full disk, a limit.
            log.warning("cannot start %s: %s; trying again", self.name, _system_says(error))
            self._end = EXIT_BUG, now
            self.ended = "could not be started"

    def state(self, now: float) -> ChildState:
        """Return its state, and note whether it has ended."""
        process = self._process
        if process is not None and process.exitcode is not None:
            self._end = process.exitcode, now
            self.ended = describe_exit(process.exitcode)
            process.join()
            process.close()
            self._process = process = None
            level = logging.INFO if self._retired_at else logging.WARNING
            log.log(level, "%s ended: %s", self.name, self.ended)
        exit_code, exited_at = self._end or (None, 0.0)
        last_beat = self._beat.value if self._beat is not None else 0.0
        self._has_run = self._has_run or last_beat > 0.0
        return ChildState(
            self.name,
            tuple(self._starts),
            process is not None,
            exit_code,
            exited_at,
            last_beat,
            self._aborted_at,
            self._retired_at,
            self._has_run,
        )

    def retire(self, now: float) -> None:
        """Ask it to end for good, unless it was asked before."""
        if not self._retired_at:
            self._retired_at = now
            self.signal(signal.SIGTERM, now)
            self.signal(signal.SIGCONT, now)

    def signal(self, number: int, now: float) -> None:
        """Send a signal, if the process exists."""
        if number == signal.SIGABRT:
            self._aborted_at = now
        if self._process is not None and self._process.exitcode is None:
            os.kill(self.pid, number)

    def join(self, deadline: float) -> bool:
        """Wait for its end; return False if it still runs at the deadline."""
        if self._process is None:
            return True
        self._process.join(max(0.0, deadline - time.monotonic()))
        return self._process.exitcode is not None


def _system_says(error: OSError) -> str:
    at = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{at}"


def describe_exit(code: int) -> str:
    """Describe how a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Supervisor:
    """All children, in start order; they are stopped in reverse."""

    def __init__(
        self,
        children: list[Child],
        limits: Supervision | None = None,
        launch: Launch = spawn,
    ) -> None:
        """``launch`` starts a process."""
        self._launch = launch
        self.children = {child.name: child for child in children}
        self._limits = limits or Supervision()
        self._looked_at = 0.0
        self._awake_since = 0.0

    def sentinels(self) -> list[int]:
        """Return the descriptors that become ready when a process ends."""
        return [c.sentinel for c in self.children.values() if c.sentinel is not None]

    def reconcile(self) -> None:
        """
        Carry out the plan once.

        Raises:
            ConfigError: If a child cannot run as configured, and never has; its message is in the log.

        """
        now = time.monotonic()
        if now - self._looked_at > _LATE_S:
            # We were stopped, or the machine was asleep: the children may have been stopped too.
            self._awake_since = now
        self._looked_at = now
        states = [child.state(now) for child in self.children.values()]
        for action in plan(now, states, self._limits, awake_since=self._awake_since):
            child = self.children[action.name]
            match action:
                case Start():
                    child.start(now, self._launch)
                case Abort(reason=reason):
                    log.error("%s: %s; asking for its stack, then killing it", child.name, reason)
                    child.signal(signal.SIGABRT, now)
                case Kill():
                    child.signal(signal.SIGKILL, now)
                case Forget():
                    del self.children[child.name]
                case GiveUp():
                    raise ConfigError(
                        f"{child.name} cannot run as configured; its message is above"
                    )

    def add(self, child: Child) -> None:
        """Supervise one more child."""
        self.children[child.name] = child

    def shards(self) -> list[int]:
        """Return the numbers of the existing shards."""
        return [child.shard for child in self.children.values() if child.shard is not None]

    def retire(self, name: str) -> None:
        """End a child for good; it is removed afterwards."""
        self.children[name].retire(time.monotonic())

    def kill(self) -> None:
        """Kill all children at once."""
        for child in self.children.values():
            child.signal(signal.SIGKILL, time.monotonic())
        for child in self.children.values():
            child.join(time.monotonic() + 1.0)

    def stop(self, names: Iterable[str], *, within_s: float) -> None:
        """End some children: SIGTERM, and SIGKILL for those that take too long."""
        children = [self.children[name] for name in names]
        now = time.monotonic()
        for child in children:
            child.signal(signal.SIGTERM, now)
            # A process stopped by SIGSTOP ends only after SIGCONT.
            child.signal(signal.SIGCONT, now)
        for child in children:
            if not child.join(now + within_s):
                log.warning("%s does not end; killing it", child.name)
                child.signal(signal.SIGKILL, now)
                child.join(time.monotonic() + 5.0)
