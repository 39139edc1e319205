"""The supervisor with real processes: what it does when they hang, crash, or cannot run."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from collector.control import scheduling
from collector.control.supervisor import Child, Supervisor
from collector.settings.parts import Supervision
from shards.protocol.errors import ConfigError
from tests.collector import children, endless
from tests.system.running import eventually

QUICK = Supervision(start_within_s=20.0, stall_after_s=1.0, abort_grace_s=1.0, crash_loop=3)


@contextmanager
def supervised(
    target: Callable[..., None], config: object = None, limits: Supervision = QUICK
) -> Iterator[tuple[Supervisor, Child]]:
    child = Child("shard 0", target, lambda: config)
    supervisor = Supervisor([child], limits)
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
        _reconcile_until(supervisor, lambda: child.restarts == 1, within_s=30)
    assert "hang_here" in capfd.readouterr().err


@pytest.fixture
def one_core() -> Iterator[int]:
    """One processor, where this test and its children must share it."""
    if scheduling.refusal():
        pytest.skip("needs the right to run in real time (CAP_SYS_NICE)")
    before = os.sched_getaffinity(0)
    cpu = min(before)
    os.sched_setaffinity(0, {cpu})
    yield cpu
    os.sched_setaffinity(0, before)


@pytest.mark.alone
@pytest.mark.parametrize(
    ("loop", "where"),
    [(endless.endless, "spin_here"), (endless.endless_in_c, "spin_in_c_here")],
    ids=["in Python", "in C"],
)
def test_an_endless_loop_in_real_time_is_found_and_replaced(
    one_core: int, capfd: pytest.CaptureFixture[str], loop: Callable[..., None], where: str
) -> None:
    # We are scheduled normally, on the core that it does not leave.
    with supervised(loop, one_core) as (supervisor, child):
        _reconcile_until(
            supervisor, lambda: child.state(time.monotonic()).last_beat > 0, within_s=30
        )
        began = time.monotonic()
        _reconcile_until(supervisor, lambda: child.restarts == 1, within_s=30)
        took_s = time.monotonic() - began
    assert where in capfd.readouterr().err
    assert took_s < 0.3 + QUICK.stall_after_s + QUICK.abort_grace_s + 4.0


def test_a_child_that_never_beats_is_replaced() -> None:
    limits = msgspec.structs.replace(QUICK, start_within_s=1.0)
    with supervised(children.never_ready, limits=limits) as (supervisor, child):
        _reconcile_until(supervisor, lambda: child.restarts == 1, within_s=30)


def test_a_stopped_child_that_cannot_even_abort_is_killed_and_replaced() -> None:
    with supervised(children.well) as (supervisor, child):
        _reconcile_until(
            supervisor, lambda: child.state(time.monotonic()).last_beat > 0, within_s=30
        )
        first = psutil.Process(child.pid)
        first.send_signal(signal.SIGSTOP)
        _reconcile_until(supervisor, lambda: child.restarts == 1, within_s=30)
        assert not first.is_running()


def test_a_killed_child_is_back_at_once() -> None:
    # On a busy machine a healthy child may have no time for a second.
    limits = msgspec.structs.replace(QUICK, stall_after_s=60.0)
    with supervised(children.well, limits=limits) as (supervisor, child):
        _reconcile_until(
            supervisor, lambda: child.state(time.monotonic()).last_beat > 0, within_s=30
        )
        killed = child.pid
        psutil.Process(killed).kill()
        _reconcile_until(supervisor, lambda: child.pid not in (0, killed), within_s=60)
        assert child.restarts == 1


def test_a_child_that_cannot_run_as_configured_ends_everything() -> None:
    with (
        supervised(children.misconfigured) as (supervisor, _),
        pytest.raises(ConfigError, match="shard 0 cannot run as configured"),
    ):
        _reconcile_until(supervisor, lambda: False, within_s=60)


def test_a_child_that_has_run_is_tried_until_its_configuration_can_be_used_again(
    tmp_path: Path,
) -> None:
    limits = msgspec.structs.replace(QUICK, stall_after_s=60.0, crash_loop=100, restart_cap_s=0.1)
    trouble = tmp_path / "trouble"
    with supervised(children.misconfigured_while, trouble, limits) as (supervisor, child):

        def beats() -> bool:
            state = child.state(time.monotonic())
            return state.running and state.last_beat > 0

        _reconcile_until(supervisor, beats, within_s=60)
        trouble.touch()
        psutil.Process(child.pid).kill()
        _reconcile_until(supervisor, lambda: child.restarts >= 2, within_s=60)
        trouble.unlink()
        _reconcile_until(supervisor, beats, within_s=60)


def test_a_crash_loop_slows_down() -> None:
    with supervised(children.crashing) as (supervisor, child):
        _reconcile_until(supervisor, lambda: child.restarts == 2, within_s=30)
        _reconcile_until(
            supervisor,
            lambda: not child.state(time.monotonic()).running,
            within_s=60,
        )
        supervisor.reconcile()
        assert child.restarts == 2, "the fourth start waits for half a minute"
