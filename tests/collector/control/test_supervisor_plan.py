"""The supervisor's plan as a table: children in, actions out, no process anywhere."""

import msgspec
import pytest

from collector.control.supervisor import (
    Abort,
    Action,
    ChildState,
    GiveUp,
    Kill,
    Start,
    describe_exit,
    plan,
    restart_wait_s,
)
from collector.settings.parts import Supervision
from shards.runtime.exit_codes import EXIT_CONFIG

LIMITS = Supervision()
NOW = 1_000.0


def running(started: float, beat: float = 0.0, aborted: float = 0.0) -> ChildState:
    return ChildState("a", (started,), running=True, last_beat=beat, aborted_at=aborted)


def ended(code: int, at: float, *starts: float) -> ChildState:
    return ChildState("a", starts, exit_code=code, exited_at=at)


STUCK = Abort("a", "its event loop is stuck")
MUTE = Abort("a", "never became ready")
CASES: dict[str, tuple[ChildState, list[Action]]] = {
    "never started: start it": (ChildState("a"), [Start("a")]),
    "starting, not yet beating: patience": (running(NOW - 29), []),
    "started long ago, never beat: abort it": (running(NOW - 31), [MUTE]),
    "beating: nothing": (running(NOW - 500, beat=NOW - 0.1), []),
    "a late beat: patience": (running(NOW - 500, beat=NOW - 9.9), []),
    "no beat for too long: abort it": (running(NOW - 500, beat=NOW - 10.1), [STUCK]),
    "aborted a moment ago: let it write its stack": (
        running(NOW - 500, beat=NOW - 12, aborted=NOW - 1.9),
        [],
    ),
    "aborted and still there: kill it": (
        running(NOW - 500, beat=NOW - 13, aborted=NOW - 2),
        [Kill("a")],
    ),
    "aborted before it ever beat and still there: kill it": (
        running(NOW - 40, aborted=NOW - 2),
        [Kill("a")],
    ),
    "crashed a moment ago: wait": (ended(-9, NOW - 0.05, NOW - 50), []),
    "crashed, its wait is over: start it": (ended(-9, NOW - 0.1, NOW - 50), [Start("a")]),
    "ended well by itself: start it all the same": (ended(0, NOW - 1, NOW - 50), [Start("a")]),
    "crashed for the third time: wait longer": (
        ended(1, NOW - 0.3, NOW - 50, NOW - 40, NOW - 30),
        [],
    ),
    "crashed for the third time, longer ago: start it": (
        ended(1, NOW - 0.4, NOW - 50, NOW - 40, NOW - 30),
        [Start("a")],
    ),
    "in a crash loop: a long wait": (ended(1, NOW - 29, *[NOW - 31] * 6), []),
    "in a crash loop, the long wait is over: start it": (
        ended(1, NOW - 30, *[NOW - 31] * 6),
        [Start("a")],
    ),
    "cannot run as configured: give up": (ended(EXIT_CONFIG, NOW - 99, NOW - 100), [GiveUp("a")]),
    "could run as configured before, and cannot now: start it": (
        msgspec.structs.replace(ended(EXIT_CONFIG, NOW - 0.1, NOW - 50), has_run=True),
        [Start("a")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_child_that_is(name: str) -> None:
    child, actions = CASES[name]
    assert plan(NOW, [child], LIMITS) == actions


def test_each_child_is_looked_at_by_itself() -> None:
    children = [
        ChildState("fine", (NOW - 50,), running=True, last_beat=NOW),
        ChildState("stuck", (NOW - 50,), running=True, last_beat=NOW - 20),
        ChildState("dead", (NOW - 50,), exit_code=-11, exited_at=NOW - 5),
    ]
    assert plan(NOW, children, LIMITS) == [
        Abort("stuck", "its event loop is stuck"),
        Start("dead"),
    ]


def test_giving_up_concerns_all_and_nothing_else_is_done() -> None:
    children = [
        ChildState("dead", (NOW - 50,), exit_code=-11, exited_at=NOW - 5),
        ChildState("wrong", (NOW - 50,), exit_code=EXIT_CONFIG, exited_at=NOW - 5),
        ChildState("stuck", (NOW - 50,), running=True, last_beat=NOW - 20),
    ]
    assert plan(NOW, children, LIMITS) == [GiveUp("wrong")]


@pytest.mark.parametrize(
    ("starts", "wait_s"),
    [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.6), (6, 30.0), (20, 30.0)],
)
def test_the_wait_doubles_with_each_recent_start_until_it_is_a_crash_loop(
    starts: int, wait_s: float
) -> None:
    child = ended(1, NOW, *[NOW - n for n in range(starts)])
    assert restart_wait_s(child, LIMITS) == pytest.approx(wait_s)


def test_the_wait_is_capped_before_that() -> None:
    patient = Supervision(crash_loop=100)
    assert restart_wait_s(ended(1, NOW, *[NOW - 1] * 50), patient) == 5.0


def test_starts_before_the_window_are_forgotten() -> None:
    assert restart_wait_s(ended(1, NOW, *[NOW - 61] * 20, NOW - 5), LIMITS) == 0.1


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-9, "killed by SIGKILL"),
        (-6, "killed by SIGABRT"),
        (-200, "killed by signal 200"),
    ],
)
def test_an_end_is_told_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words
