"""One token bucket for many processes: the rate holds, nothing unused is lost, no death stops it."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from shards.net.token_bucket import TokenBucket, bucket_name, usage
from tests.searches import examples

_TAKER = """
import sys, time
from pathlib import Path
from shards.net.token_bucket import TokenBucket

bucket = TokenBucket(Path(sys.argv[1]), float(sys.argv[2]))
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    while (wait_s := bucket.take(now := time.monotonic())) is None:
        time.sleep(0.0005)
    print(now + wait_s, flush=True)
"""


def taker(path: Path, per_s: float, turns: int) -> "subprocess.Popen[str]":
    """Start a process that waits for a line and then takes turns as fast as it can."""
    arguments = (sys.executable, "-c", _TAKER, str(path), str(per_s), str(turns))
    return subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )


def test_processes_share_the_turns_evenly_spaced(tmp_path: Path) -> None:
    path = tmp_path / "chain host"
    takers = [taker(path, 20.0, 25) for _ in range(4)]
    due: list[float] = []
    for process in takers:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in takers:
        due += map(float, process.communicate(timeout=60)[0].split())
    due.sort()
    assert len(due) == 100
    for first, later in zip(due, due[20:], strict=False):
        assert later - first >= 1.0 - 1e-6, "more than 20 within a second"
    assert due[-1] - due[0] == pytest.approx(99 / 20.0, abs=2.0), "turns were lost"


def test_a_process_that_is_killed_anywhere_leaves_a_bucket_that_works(tmp_path: Path) -> None:
    path = tmp_path / "chain host"
    for _ in range(5):
        with taker(path, 1e6, 10_000_000) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            process.stdout.readline()
            process.send_signal(signal.SIGKILL)
    now = time.monotonic()
    bucket = TokenBucket(path, 20.0)
    first = bucket.take(now)
    assert first is not None
    assert first < 1.0
    assert bucket.take(now) == pytest.approx(first + 1 / 18.0)


def test_a_process_that_is_stopped_at_the_bucket_holds_nobody_up(tmp_path: Path) -> None:
    holder = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.flock(f, fcntl.LOCK_EX)"
    path = tmp_path / "chain host"
    bucket = TokenBucket(path, 20.0)
    with subprocess.Popen(
        (sys.executable, "-c", f"{holder}; print('held', flush=True); input()", str(path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert bucket.take(0.0) is None
        process.kill()
    assert bucket.take(0.0) == 0.0


def test_what_nobody_took_is_not_saved_up() -> None:
    bucket = TokenBucket(None, 10.0)
    assert bucket.take(100.0) == 0.0
    assert bucket.take(200.0) == 0.0
    assert bucket.take(200.0) == pytest.approx(1 / 9.0)


@settings(max_examples=examples(100), deadline=None)
@given(steps=st.lists(st.floats(0.0, 0.3), min_size=1, max_size=60), per_s=st.floats(1.0, 100.0))
def test_no_second_ever_holds_more_turns_than_it_allows(steps: list[float], per_s: float) -> None:
    bucket, now, due = TokenBucket(None, per_s), 1000.0, []
    for step in steps:
        now += step
        wait_s = bucket.take(now)
        assert wait_s is not None
        due.append(now + wait_s)
    apart = [later - first for first, later in itertools.pairwise(due)]
    assert all(gap >= 1.0 / per_s - 1e-9 for gap in apart)


# ---- refusals -------------------------------------------------------------------------


def test_a_refusal_pauses_everyone_and_counts() -> None:
    bucket = TokenBucket(None, 10.0)
    bucket.take(0.0)
    bucket.refused(1.0)
    assert bucket.paused(1.0)
    wait_s = bucket.take(1.0)
    assert wait_s is not None
    assert 0.5 <= wait_s <= 1.0
    assert not bucket.paused(2.0)
    assert bucket.usage("chain host", 1.0).refused == 1


def test_refusals_of_what_was_under_way_together_are_one_pause() -> None:
    bucket = TokenBucket(None, 10.0)
    for _ in range(50):
        bucket.refused(1.0)
    assert not bucket.paused(2.0)
    assert bucket.usage("chain host", 1.0).refused == 50


def test_each_refusal_after_a_pause_doubles_the_next_and_calm_forgets() -> None:
    bucket, now, longest = TokenBucket(None, 10.0), 0.0, 1.0
    for _ in range(8):
        bucket.refused(now)
        wait_s = bucket.take(now)
        assert wait_s is not None
        assert longest / 2 <= wait_s <= longest + 0.2
        now += wait_s + 0.01
        longest = min(30.0, longest * 2)
    now += 60.0
    bucket.refused(now)
    assert not bucket.paused(now + 1.0)


def test_a_pause_is_never_shorter_than_was_demanded() -> None:
    bucket = TokenBucket(None, 0.0)
    bucket.refused(0.0, retry_after_s=7.0)
    wait_s = bucket.take(0.0)
    assert wait_s is not None
    assert wait_s == pytest.approx(7.0)


@pytest.mark.parametrize("per_s", [0.0, 20.0])
def test_after_a_pause_all_come_back_more_slowly_and_later_as_before(per_s: float) -> None:
    bucket, now = TokenBucket(None, per_s), 0.0
    apart = []
    for _ in range(2):
        bucket.refused(now)
        first, second = bucket.take(now), bucket.take(now)
        assert first is not None
        assert second is not None
        apart.append(second - first)
        now += second
    assert apart == pytest.approx([2 / 20.0, 4 / 20.0])
    now += 60.0
    assert bucket.take(now) == 0.0
    assert bucket.take(now) == pytest.approx(1 / 18.0 if per_s else 0.0)


def test_a_file_from_before_a_reboot_is_no_reason_to_wait(tmp_path: Path) -> None:
    path = tmp_path / "chain host"
    TokenBucket(path, 0.001).take(1e6)
    assert TokenBucket(path, 10.0).take(5.0) == 0.0


def test_the_usage_of_all_hosts_can_be_read_by_anyone(tmp_path: Path) -> None:
    assert usage(tmp_path / "nowhere") == []
    bucket = TokenBucket(tmp_path / bucket_name("indexer", "host.example"), 50.0)
    for _ in range(3):
        bucket.take(time.monotonic())
    (found,) = usage(tmp_path)
    assert (found.group, found.host, found.per_s, found.made) == ("indexer", "host.example", 50, 3)
    assert 0.0 < found.wait_s < 1.0
