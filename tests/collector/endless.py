"""Processes in real time, for the supervisor's tests, that keep their core and never come back."""

import asyncio
import itertools
import os
from collections.abc import Callable
from typing import Any

from shards.runtime import child
from shards.runtime.child import ChildContext


def endless(cpu: int, heartbeat: Any) -> None:
    """Be a child in real time whose loop, after its first turns, never turns again."""
    _realtime(cpu, heartbeat, spin_here)


def endless_in_c(cpu: int, heartbeat: Any) -> None:
    """The same in C, where no signal handler of Python's runs."""
    _realtime(cpu, heartbeat, spin_in_c_here)


def _realtime(cpu: int, heartbeat: Any, spin: Callable[[], None]) -> None:
    async def body(life: ChildContext) -> None:
        await asyncio.sleep(0.3)
        spin()

    os.sched_setaffinity(0, {cpu})
    child.run("spinning", body, heartbeat, log_level="INFO", log_format="text", realtime=1)


def spin_here() -> None:
    """Do not come back."""
    while True:
        pass


def spin_in_c_here() -> None:
    """Do not come back, and look at no signal."""
    sum(itertools.repeat(0))
