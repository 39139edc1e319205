"""The supervisor with real processes: what it does when they hang, crash, or cannot run."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from collector.control.supervisor import Child, Supervisor
from collector.settings.parts import Supervision
from shards.protocol.errors import ConfigError
from tests.collector import children
from tests.system.running import eventually

QUICK = Supervision(start_within_s=3.0, stall_after_s=1.0, abort_grace_s=1.0, crash_loop=3)


@contextmanager
def supervised(target: Callable[..., None]) -> Iterator[tuple[Supervisor, Child]]:
    child = Child("shard 0", target, lambda: None)
    supervisor = Supervisor([child], QUICK)
    try:
        yield supervisor, child
    finally:
        supervisor.stop(["shard 0"], within_s=2.0)


def _reconcile_until(
    supervisor: Supervisor, condition: Callable[[], bool], within_s: float
) -> None:
    def turned() -> bool:
        supervisor.reconcile()
        return condition()

    eventually(turned, within_s=within_s, what="the supervisor's turn")


def test_a_stuck_loop_shows_its_stack_and_is_replaced(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with supervised(children.stuck) as (supervisor, child):
        _reconcile_until(supervisor, lambda: child.restarts == 1, within_s=15)
    assert "hang_here" in capfd.readouterr().err


def test_a_child_that_never_beats_is_replaced() -> None:
    with supervised(children.never_ready) as (supervisor, child):
        _reconcile_until(supervisor, lambda: child.restarts == 1, within_s=15)


def test_a_stopped_child_that_cannot_even_abort_is_killed_and_replaced() -> None:
    with supervised(children.well) as (supervisor, child):
        _reconcile_until(
            supervisor, lambda: child.state(time.monotonic()).last_beat > 0, within_s=10
        )
        first = psutil.Process(child.pid)
        first.send_signal(signal.SIGSTOP)
        _reconcile_until(supervisor, lambda: child.restarts == 1, within_s=15)
        assert not first.is_running()


def test_a_killed_child_is_back_at_once() -> None:
    with supervised(children.well) as (supervisor, child):
        _reconcile_until(
            supervisor, lambda: child.state(time.monotonic()).last_beat > 0, within_s=10
        )
        killed = child.pid
        psutil.Process(killed).kill()
        _reconcile_until(supervisor, lambda: child.pid not in (0, killed), within_s=3)
        assert child.restarts == 1


def test_a_child_that_cannot_run_as_configured_ends_everything() -> None:
    with (
        supervised(children.misconfigured) as (supervisor, _),
        pytest.raises(ConfigError, match="shard 0 cannot run as configured"),
    ):
        _reconcile_until(supervisor, lambda: False, within_s=10)


def test_a_crash_loop_slows_down() -> None:
    with supervised(children.crashing) as (supervisor, child):
        _reconcile_until(supervisor, lambda: child.restarts == 2, within_s=15)
        _reconcile_until(
            supervisor,
            lambda: not child.state(time.monotonic()).running,
            within_s=10,
        )
        supervisor.reconcile()
        assert child.restarts == 2, "the fourth start waits for half a minute"
