"""
How to start a child process: the interface for the supervisor, and the way that works everywhere.

`template.Template` is the fast way.
"""

import logging
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import heap
from typing import Any, Final, Protocol, TypeAlias

from shards.runtime.child import Heartbeat

log = logging.getLogger(__name__)

Target: TypeAlias = Callable[[Any, Any], None]
"""A child's entry point: it takes its configuration and its heartbeat."""

_spawn: Final = multiprocessing.get_context("spawn")


class Process(Protocol):
    """A child process, running or ended; `multiprocessing` has this kind of object."""

    @property
    def pid(self) -> int | None:
        """Its process id."""

    @property
    def sentinel(self) -> int:
        """A file descriptor that becomes readable when the process ends."""

    @property
    def exitcode(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it; None until then."""

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, at most ``timeout`` seconds."""

    def close(self) -> None:
        """Free its resources; it must have ended."""


Launch: TypeAlias = Callable[[str, Target, Any], tuple[Process, Heartbeat]]
"""Starts a process with this name; raises `OSError` if the system refuses."""


def spawn(name: str, target: Target, config: Any) -> tuple[Process, Heartbeat]:
    """
    Start a process as a new interpreter, which imports all its modules.

    Raises:
        OSError: If the system refuses.

    """
    beat = _shared_double()
    process = _spawn.Process(target=target, args=(config, beat), name=name)
    process.start()
    return process, beat


def _shared_double() -> Any:
    """Create a double that can be shared with a child; it is 0 at first."""
    try:
        return _spawn.RawValue("d", 0.0)
    except OSError:
        # /dev/shm is absent or read-only: a file in the temporary folder works as well.
        heap.Arena._dir_candidates = []  # type: ignore[attr-defined]
        return _spawn.RawValue("d", 0.0)


def stand_somewhere() -> None:
    """Leave a working directory that was deleted: no child can be started from there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        log.info("the working directory was deleted; going on in /")
        os.chdir("/")
