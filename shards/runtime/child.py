"""
One way to be a process of the collector: a loop, a heartbeat, signals, exit codes.

::

    main(config, heartbeat)            the entry point that a process is started with
      └─ run("shard 0", body, …)       names the process, its logs, its stack traces
           └─ body(life)               what this process does, until `life.stop` is set

A body returns after it has drained. How it ends determines what the supervisor does:

====================  =========  =====================================================
the body              exit code  the supervisor
====================  =========  =====================================================
returns               0          starts it again, unless it asked for the end
raises `ConfigError`  3          stops everything, unless a process of it has run before:
                                 then what cannot be used now is tried again
raises `Fenced`       0          starts it again: another process had taken its place
raises anything else  1          starts it again; the traceback is in the log
====================  =========  =====================================================
"""

import asyncio
import faulthandler
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeAlias

import setproctitle
import uvloop

from shards.protocol.errors import ConfigError, Fenced
from shards.protocol.settings import LogFormat
from shards.runtime import groups, logs, parent
from shards.runtime.exit_codes import EXIT_CONFIG, EXIT_OK
from shards.runtime.loop_monitor import LoopMonitor
from shards.runtime.realtime import Realtime

log = logging.getLogger(__name__)

_BEAT_S: Final = 0.1


class Heartbeat(Protocol):
    """A double in memory that is shared with the supervisor: when the loop last turned."""

    value: float
    """Monotonic seconds; 0 before the first beat."""


class ChildContext:
    """The context of a body: when to stop, and how well its loop runs."""

    def __init__(
        self, heartbeat: Heartbeat | None = None, scheduling: Realtime | None = None
    ) -> None:
        self.stop = asyncio.Event()
        """Set by SIGTERM and by the parent's death; without a parent by SIGINT and SIGHUP too."""
        self.watched = LoopMonitor()
        """How late the loop runs, how long the garbage collector pauses."""
        self.each_beat: list[Callable[[], None]] = []
        """Called ten times a second, from inside the loop."""
        self._heartbeat = heartbeat
        self._scheduling = scheduling

    def put_others_first(self) -> None:
        """In real time, schedule all other threads that exist now before the calling one."""
        if self._scheduling is not None:
            self._scheduling.put_others_first()

    async def beat(self) -> None:
        """Beat forever while the loop turns, and record how late each beat is."""
        while True:
            due = time.monotonic() + _BEAT_S
            if self._heartbeat is not None:
                self._heartbeat.value = time.monotonic()
            if self._scheduling is not None:
                self._scheduling.beat()
            for call in self.each_beat:
                call()
            await asyncio.sleep(_BEAT_S)
            self.watched.late(time.monotonic() - due)


Body: TypeAlias = Callable[[ChildContext], Coroutine[Any, Any, None]]


def run(
    name: str,
    body: Body,
    heartbeat: Heartbeat | None = None,
    *,
    log_level: str,
    log_format: LogFormat,
    exit_config: int = EXIT_CONFIG,
    realtime: int = 0,
    spin: bool = False,
) -> None:
    """
    Run a supervised process, from its first line to its exit code.

    Args:
        name: Its name in the process list and the log.
        body: The work of the process; it returns after `ChildContext.stop` is set.
        heartbeat: The shared double that the supervisor checks.
        log_level: The lowest level that it logs.
        log_format: The format of its log lines.
        exit_config: The exit code for a configuration error; 1 if nothing depends on this process,
            so that it is restarted instead of ending everything.
        realtime: Its real-time priority; 0: it is scheduled normally.
        spin: Whether its loop polls for events instead of sleeping until there is one.

    Raises:
        SystemExit: With the exit code, if that is not 0.

    """
    setproctitle.setproctitle(f"collector: {name}")
    logs.configure(name, level=log_level, form=log_format)
    if sys.stderr is not None:
        # The supervisor's SIGABRT makes a stuck process print where it is stuck.
        faulthandler.enable()
    try:
        run_loop(body, heartbeat, realtime=realtime, spin=spin)
    except Exception as error:
        code = _judge(error, exit_config)
        if code is None:
            raise
        if code != EXIT_OK:
            raise SystemExit(code) from None


def run_loop(
    body: Body, heartbeat: Heartbeat | None = None, *, realtime: int = 0, spin: bool = False
) -> None:
    """
    Run a body in its own loop, with this process's signals; for unsupervised processes.

    Raises:
        ConfigError: If the body raises it; not in a group, so that a command ends with its text.

    """
    scheduling = Realtime(realtime) if realtime else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, groups.alone(ConfigError):
        if spin:
            keep_awake(runner.get_loop())
        runner.run(_live(body, heartbeat, scheduling))


def keep_awake(loop: asyncio.AbstractEventLoop) -> None:
    """Keep a loop from sleeping: something is always due, so it polls its sockets and goes on."""

    def turn() -> None:
        loop.call_soon(turn)

    loop.call_soon(turn)


async def _live(body: Body, heartbeat: Heartbeat | None, scheduling: Realtime | None) -> None:
    life = ChildContext(heartbeat, scheduling)
    _handle_signals(life.stop)
    with life.watched.gc_pauses():
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(life.beat())
            try:
                await body(life)
            finally:
                beating.cancel()


def _handle_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    sentinel = parent.sentinel()
    # Ctrl-C in a terminal, or closing it, signals the whole group; the coordinator drains its
    # children in its own order.
    from_terminal = stop.set if sentinel is None else _ignore
    for number in (signal.SIGINT, signal.SIGHUP):
        # Under nohup SIGHUP is ignored, and stays so.
        if signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, from_terminal)
    if sentinel is not None:
        # Orphans stop: the other end of this pipe closes, whatever ends the parent.
        loop.add_reader(sentinel, stop.set)
    # The template that we were forked from blocks these signals until a child handles them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGHUP))


def _ignore() -> None:
    pass


def freeze_heap() -> None:
    """
    Exempt all existing objects from garbage collection, and collect the others rarely.

    Call it when everything is set up. Frames are freed by their reference counts: the default, a
    search for cycles after every 700 new objects, finds none.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _judge(error: Exception, exit_config: int) -> int | None:
    """Log in one line what ended the process and return the exit code; None for a bug."""
    leaves = list(groups.leaves(error))
    if all(isinstance(leaf, ConfigError) for leaf in leaves):
        log.error("%s", leaves[0])
        return exit_config
    if all(isinstance(leaf, Fenced) for leaf in leaves):
        log.warning("%s", leaves[0])
        return EXIT_OK
    return None
