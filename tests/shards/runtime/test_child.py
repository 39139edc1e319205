"""How a child process begins, lives and ends, each in a process of its own."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from shards.runtime.exit_codes import EXIT_BUG, EXIT_CONFIG, EXIT_OK
from tests.shards.runtime import bodies
from tests.system.running import runs

_spawn = multiprocessing.get_context("spawn")


class Started:
    """A child process with a body of `bodies`, its heartbeat and what it wrote."""

    def __init__(self, what: str) -> None:
        self.beat = _spawn.RawValue("d", 0.0)
        self.process = _spawn.Process(target=bodies.be, args=(what, self.beat))
        self.process.start()

    def await_beat(self, after: float = 0.0) -> float:
        """Wait for a beat later than an instant; return when it was."""
        _eventually(lambda: self.beat.value > after)
        return float(self.beat.value)

    def end(self) -> int | None:
        """Wait for its end and return the exit code."""
        self.process.join(90)
        return self.process.exitcode


def _eventually(condition: Callable[[], Any], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def start() -> Iterator[Callable[[str], Started]]:
    started: list[Started] = []

    def begin(what: str) -> Started:
        started.append(Started(what))
        return started[-1]

    yield begin
    for child in started:
        child.process.kill()
        child.process.join()


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("misconfigured", EXIT_CONFIG, "ERROR the port is taken\n"),
        ("fenced", EXIT_OK, "WARNING shard 7 was replaced by a younger process\n"),
        ("crash", EXIT_BUG, "ZeroDivisionError: a bug"),
    ],
)
def test_the_end_of_a_body_is_said_and_decides_the_exit_code(
    start: Callable[[str], Started],
    capfd: pytest.CaptureFixture[str],
    what: str,
    code: int,
    said: str,
) -> None:
    assert start(what).end() == code
    assert said in (err := capfd.readouterr().err)
    assert code == EXIT_BUG or "TaskGroup" not in err


def test_sigterm_lets_the_body_drain(
    start: Callable[[str], Started], capfd: pytest.CaptureFixture[str]
) -> None:
    child = start("until_stopped")
    child.await_beat()
    child.process.terminate()
    assert child.end() == EXIT_OK
    assert "drained" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_the_terminal_sends_to_all_is_left_to_the_parent(
    start: Callable[[str], Started], number: int
) -> None:
    child = start("until_stopped")
    child.await_beat()
    assert child.process.pid
    os.kill(child.process.pid, number)
    # Three later beats: it has had the signal, and goes on.
    for _ in range(3):
        child.await_beat(after=child.beat.value)
    assert child.process.is_alive()


def test_an_orphan_ends(capfd: pytest.CaptureFixture[str]) -> None:
    pids, at_parent = _spawn.Pipe(duplex=False)
    parent = _spawn.Process(target=bodies.die_and_leave, args=("until_stopped", at_parent))
    parent.start()
    assert pids.poll(60)
    orphan = psutil.Process(pids.recv())
    parent.join(90)
    _eventually(lambda: not runs(orphan))
    _eventually(lambda: "drained" in capfd.readouterr().err)


def test_a_child_counts_the_pauses_of_its_garbage_collector(
    start: Callable[[str], Started], capfd: pytest.CaptureFixture[str]
) -> None:
    assert start("collect_garbage").end() == EXIT_OK
    (count,) = re.findall(r"pauses (\d+)", capfd.readouterr().err)
    assert int(count) >= 2


_PAUSES = """
import asyncio, resource
from shards.runtime.child import run_loop

def sleeps():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw

async def body(life):
    before = sleeps()
    for _ in range(40):
        await asyncio.sleep(0.002)
    print(sleeps() - before)

run_loop(body, spin={spin})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts how often a thread sleeps")
def test_a_loop_that_spins_does_not_sleep() -> None:
    slept = {
        spin: int(
            subprocess.run(
                [sys.executable, "-c", _PAUSES.format(spin=spin)],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
        )
        for spin in (True, False)
    }
    assert slept[False] >= 40
    assert slept[True] < 10
