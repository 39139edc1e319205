"""Bodies of child processes for `test_child.py`: each ends in a way of its own."""

import asyncio
import gc
import logging
import multiprocessing
import os
from collections.abc import Callable
from typing import Any

from shards.protocol.errors import ConfigError, Fenced
from shards.runtime import child
from shards.runtime.child import ChildContext, Heartbeat

log = logging.getLogger(__name__)


async def until_stopped(life: ChildContext) -> None:
    """Do nothing until asked to stop, then say that it drained."""
    await life.stop.wait()
    log.info("drained")


async def _raise(error: Exception) -> None:
    raise error


async def _nested(error: Exception) -> None:
    async with asyncio.TaskGroup() as outer:
        outer.create_task(_grouped(error))


async def _grouped(error: Exception) -> None:
    async with asyncio.TaskGroup() as inner:
        inner.create_task(_raise(error))


async def misconfigured(life: ChildContext) -> None:
    """Say, two task groups deep, that a restart would not help."""
    await _nested(ConfigError("the port is taken"))


async def fenced(life: ChildContext) -> None:
    """Say, two task groups deep, that a younger process does this one's work."""
    await _nested(Fenced("shard 7 was replaced by a younger process"))


async def crash(life: ChildContext) -> None:
    """Have a bug, beside an error that would be expected alone."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_raise(ConfigError("the port is taken")))
        tasks.create_task(_raise(ZeroDivisionError("a bug")))


async def collect_garbage(life: ChildContext) -> None:
    """Collect garbage, and say what was counted of it."""
    child.freeze_heap()
    gc.collect()
    log.info("pauses %d", life.watched.vitals.gc_pause.number)


def be(what: str, heartbeat: Heartbeat) -> None:
    """Entry point of the spawned child."""
    bodies: dict[str, Callable[[ChildContext], Any]] = {
        body.__name__: body
        for body in (until_stopped, misconfigured, fenced, crash, collect_garbage)
    }
    child.run("a child", bodies[what], heartbeat, log_level="INFO", log_format="text")


def die_and_leave(what: str, pids: Any) -> None:
    """Start a child and die without a word to it."""
    spawn = multiprocessing.get_context("spawn")
    beat = spawn.RawValue("d", 0.0)
    process = spawn.Process(target=be, args=(what, beat))
    process.start()
    while not beat.value:
        pass
    pids.send(process.pid)
    os._exit(0)
