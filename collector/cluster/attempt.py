"""
Ask Ray in a child process, because Ray may hang, or end the process that asks.

Where Ray runs only in part, for example while its process on this host is stopped, a command waits for
half a minute, whatever its `--within`. Then Ray ends it with exit code 1, and says nothing.
"""

import atexit
import os
import signal
import sys
import time
from typing import Final

from shards.protocol.errors import ConfigError

ANSWERS_S: Final = 30.0
"""For a command that waits for Ray and then for the cells: what the answers in between may take."""
_SPARE_S: Final = 2.0
"""A command that is late by less than this says itself why."""
_TURN_S: Final = 0.02
_ENDED: Final = b"."
"""What the child says when it ends by itself, whatever its exit code."""


def go_on_in_child(within_s: float) -> None:
    """
    Return in a child process. This process ends when the child does, with its exit code.

    Raises:
        ConfigError: In this process, if the child is not done in time, or if Ray has ended it.

    """
    code = code_of_child(within_s)
    if code is not None:
        sys.exit(code)


def code_of_child(within_s: float) -> int | None:
    """
    Return None in a child process, and in this one the exit code with which the child has ended.

    Raises:
        ConfigError: In this process, if the child is not done in time, or if Ray has ended it.

    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        atexit.register(os.write, writing, _ENDED)
        return None
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        code = _code_of(child, time.monotonic() + within_s + _SPARE_S)
        if said.read() == _ENDED:
            return code
    raise ConfigError(
        f"Ray runs on this host but does not work: {_why(code, within_s)}. Cells that run go on without it"
    )


def _code_of(child: int, deadline: float) -> int:
    """Wait for a child's end, and end it at the deadline; return its exit code."""
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_TURN_S)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _why(code: int, within_s: float) -> str:
    if code == -signal.SIGKILL:
        return f"it did not answer within {within_s:g} s"
    return f"it ended the process that asked, with exit code {code}"
