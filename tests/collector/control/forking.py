"""A process that forks children from a template, for `test_template.py`: one thread, as `start` has."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc
import psutil

from collector.control.launch import Process
from collector.control.supervisor import Child, Supervisor
from collector.control.template import Template
from shards.adapters import registry
from shards.adapters.injective_chain import ws_source
from shards.runtime.child import Heartbeat
from shards.runtime.exit_codes import EXIT_CONFIG
from tests.shards.runtime import bodies
from tests.system.running import eventually


def _say(**found: Any) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def speak(config: str, beat: Heartbeat) -> None:
    """Use what does not survive a fork, and show that this process has its own."""

    async def call() -> str:
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            try:
                await channel.unary_unary("/a/b")(b"", timeout=60)
            except grpc.aio.AioRpcError as error:
                return str(error.code())
        return ""

    beat.value = 7.0
    _say(
        config=config,
        code=asyncio.run(call()),
        parent=os.getppid(),
        has_source=ws_source.__name__ in sys.modules,
    )


def end(how: str, beat: Heartbeat) -> None:
    """End in one of the ways that there are."""
    if how == "configuration":
        raise SystemExit(EXIT_CONFIG)
    if how == "bug":
        raise ZeroDivisionError("a bug")
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def _ended(process: Process) -> int | None:
    process.join(90)
    code = process.exitcode
    process.close()
    return code


def _of_a_child(template: Template) -> None:
    process, beat = template.launch("a child", speak, "as told")
    code = _ended(process)
    tasks = os.listdir(f"/proc/{template.pid}/task")
    _say(pid=os.getpid(), exit=code, beat=beat.value, threads=len(tasks))


def _of_ends(template: Template) -> None:
    hows = ("well", "configuration", "bug", "kill")
    _say(**{how: _ended(template.launch(how, end, how)[0]) for how in hows})


def _supervise(template: Template, then: Callable[[Child, Supervisor], None]) -> None:
    child = Child("shard 0", bodies.be, lambda: "until_stopped")
    supervisor = Supervisor([child], launch=template.launch)

    def beats() -> bool:
        supervisor.reconcile()
        return child.state(time.monotonic()).last_beat > 0

    eventually(beats, within_s=30, what="a heartbeat")
    then(child, supervisor)
    supervisor.stop(["shard 0"], within_s=10)


def _without(template: Template, number: int) -> None:
    """The template is killed or stopped: the child goes on, and its successor begins."""

    def then(child: Child, supervisor: Supervisor) -> None:
        os.kill(template.pid, number)
        first = psutil.Process(child.pid)
        supervisor.reconcile()
        lives = first.is_running() and child.restarts == 0
        first.kill()

        def again() -> bool:
            supervisor.reconcile()
            return child.restarts == 1 and child.state(time.monotonic()).last_beat > 0

        eventually(again, within_s=30, what="its successor")
        parent = psutil.Process(child.pid).ppid()
        _say(lived=lives, ended=child.ended, is_ours=parent == os.getpid())

    _supervise(template, then)


def _die(template: Template, _: int = 0) -> None:
    """Die without a word to anyone."""

    def then(child: Child, supervisor: Supervisor) -> None:
        _say(pids=[child.pid, template.pid])
        os.kill(os.getpid(), signal.SIGKILL)

    _supervise(template, then)


_TASKS: dict[str, Callable[[Template], None]] = {
    "child": _of_a_child,
    "ends": _of_ends,
    "killed": lambda template: _without(template, signal.SIGKILL),
    "stopped": lambda template: _without(template, signal.SIGSTOP),
    "die": _die,
}


def main(task: str) -> None:
    """Do one of the tasks, and say what came of it."""
    template = Template(registry.preload, answer_s=6.0 if task == "stopped" else 60.0)
    assert template.pid
    _TASKS[task](template)
    template.close()
    # Who spawns has multiprocessing's tracker.
    left = [" ".join(p.cmdline()) for p in psutil.Process().children()]
    assert not [one for one in left if "resource_tracker" not in one], left


if __name__ == "__main__":
    main(sys.argv[1])
