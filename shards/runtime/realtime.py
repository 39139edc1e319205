"""
Real-time scheduling of a process of the data path, and its way out of an endless loop.

A process in real time runs before all others, so its frames do not wait for a core. It must never
keep the core: the kernel counts how long it runs without a pause (`RLIMIT_RTTIME`), and

- after `PAUSE_S` sends SIGXCPU: the process schedules itself normally, and returns to real time
  after `AGAIN_S` without another signal. So a stuck loop leaves the machine usable until the
  supervisor replaces it, and an overloaded shard runs as a normal process;
- after `KILL_S` kills it, if it is stuck in C and cannot do that.

Round robin, because shards of equal priority on one core must take turns. Linux only; elsewhere
processes are scheduled normally.

ZeroMQ's threads of a shard go before its own loop. They take what it pushed to the aggregator. At
the same priority they would wait until the loop has nothing left to do: a block's first frames
would leave with its last.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Final

log = logging.getLogger(__name__)

SHARD: Final = 1
AGGREGATOR: Final = 2
"""Above the shards: all of them wait for it."""
SUPERVISOR: Final = 3
"""Above the processes that it may have to kill."""
PAUSE_S: Final = 0.5
"""The longest a process may run in real time without a pause."""
KILL_S: Final = 15
"""After this the kernel kills it. The supervisor acts earlier, and asks for the stack first."""
AGAIN_S: Final = 10.0
_RESET_ON_FORK: Final = 0x40000000


def take(priority: int, thread: int = 0, *, inherited: bool = True) -> None:
    """
    Schedule a thread in real time, or normally if ``priority`` is 0.

    Args:
        priority: The real-time priority, from 1 (the lowest).
        thread: Its kernel id; 0 is the calling one.
        inherited: Whether threads and processes that it starts inherit the scheduling.

    Raises:
        OSError: If the system does not allow it, or cannot do it.

    """
    if sys.platform != "linux":
        raise OSError("this system is not Linux")
    policy = os.SCHED_RR if priority else os.SCHED_OTHER
    flags = 0 if inherited or not priority else _RESET_ON_FORK
    os.sched_setscheduler(thread, policy | flags, os.sched_param(priority))


def of(pid: int) -> str:
    """Return how a process is scheduled: ``realtime``, ``normal``, or empty if it is unknown."""
    if sys.platform != "linux":
        return ""
    try:
        policy = os.sched_getscheduler(pid) & ~_RESET_ON_FORK
    except OSError:
        return ""
    return "realtime" if policy in (os.SCHED_RR, os.SCHED_FIFO) else "normal"


class Realtime:
    """The real-time scheduling of this process and all its threads."""

    def __init__(self, priority: int) -> None:
        """Take it now, before any thread is started: threads inherit it."""
        self._priority = priority
        self._carriers: frozenset[int] = frozenset()
        """Threads that go before the others."""
        self._left_at = 0.0
        """When the kernel last made us leave real time, monotonic; 0 while we are in it."""
        self._is_logged = False
        try:
            take(priority)
        except OSError as error:
            # The coordinator was allowed it, but a container may refuse it to child processes.
            log.warning("real time is refused: %s; scheduled normally", error.strerror or error)
            self._priority = 0
            return
        signal.signal(signal.SIGXCPU, self._leave)
        self._limit()

    def put_others_first(self) -> None:
        """Schedule all other threads that exist now before the calling one, from now on."""
        if self._priority:
            self._carriers = _threads() - {threading.get_native_id()}
            if not self._left_at:
                self._schedule(self._priority)

    def beat(self) -> None:
        """Return to real time if it is due; called from the loop, so the loop turns again."""
        if not self._left_at:
            return
        if not self._is_logged:
            self._is_logged = True
            log.warning(
                "ran for %.1f s without a pause in real time: scheduled normally for %.0f s",
                PAUSE_S,
                AGAIN_S,
            )
        if time.monotonic() - self._left_at >= AGAIN_S:
            self._left_at, self._is_logged = 0.0, False
            self._schedule(self._priority)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        """Schedule all threads normally; runs between two steps of the code that does not pause."""
        self._left_at = time.monotonic()
        self._schedule(0)
        # The kernel has raised it by a second.
        self._limit()

    def _limit(self) -> None:
        import resource  # not on every system

        limits = (round(PAUSE_S * 1e6), KILL_S * 1_000_000)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_RTTIME, limits)

    def _schedule(self, priority: int) -> None:
        for thread in _threads():
            first = priority and thread in self._carriers
            # A thread may end meanwhile, or the right may have been taken away.
            with contextlib.suppress(OSError):
                take(priority + 1 if first else priority, thread)


def _threads() -> frozenset[int]:
    """Return the kernel ids of this process's threads."""
    return frozenset(map(int, os.listdir("/proc/self/task")))
