"""Real time: taken with all threads, left by who keeps a core, and ended by the kernel at last."""

import os
import signal
import subprocess
import sys

import pytest

from shards.runtime import realtime


def _refused() -> bool:
    try:
        realtime.take(1)
        realtime.take(0)
    except OSError:
        return True
    return False


pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or _refused(), reason="needs the right to run in real time"
)


def _run(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


_THREADS = """
import os, threading, time
from shards.runtime import realtime

def now():
    return sorted({realtime.of(int(thread)) for thread in os.listdir("/proc/self/task")})

ours = realtime.Realtime(realtime.SHARD)
end = threading.Event()
threading.Thread(target=end.wait).start()
"""


def test_who_keeps_a_core_leaves_real_time_with_all_threads_and_comes_back() -> None:
    done = _run(
        f"""{_THREADS}
realtime.AGAIN_S = 0.2
print(*now())
until = time.monotonic() + 3 * realtime.PAUSE_S
while time.monotonic() < until and now() != ["normal"]:
    pass
print(*now())
ours.beat()
print(*now())
time.sleep(0.3)
ours.beat()
print(*now())
# And the limit holds again.
until = time.monotonic() + 3 * realtime.PAUSE_S
while time.monotonic() < until and now() != ["normal"]:
    pass
print(*now())
end.set()
"""
    )
    assert done.stdout.split() == ["realtime", "normal", "normal", "realtime", "normal"], done


def test_threads_that_carry_frames_go_before_the_loop_also_after_a_return_to_real_time() -> None:
    done = _run(
        f"""{_THREADS}
realtime.AGAIN_S = 0.0

earlier, = set(map(int, os.listdir("/proc/self/task"))) - {{os.getpid()}}
ours.put_others_first()
later = threading.Thread(target=end.wait)
later.start()

def priorities():
    threads = (os.getpid(), earlier, later.native_id)
    return [os.sched_getparam(thread).sched_priority for thread in threads]

print(*priorities())
until = time.monotonic() + 3 * realtime.PAUSE_S
while time.monotonic() < until and now() != ["normal"]:
    pass
print(*priorities())
ours.beat()
print(*priorities())
end.set()
"""
    )
    # The loop, a thread from before, and one from after that.
    assert done.stdout.splitlines() == ["1 2 1", "0 0 0", "1 2 1"], done


def test_who_is_stuck_in_c_is_killed_by_the_kernel() -> None:
    done = _run(
        f"""
from shards.runtime import realtime
realtime.KILL_S = 1
{_THREADS.replace("threading.Thread(target=end.wait).start()", "")}
import itertools
sum(itertools.repeat(0))
"""
    )
    assert done.returncode == -signal.SIGKILL, done


def test_what_a_supervisor_starts_is_scheduled_normally() -> None:
    done = _run(
        """
import os
from shards.runtime import realtime
realtime.take(realtime.SUPERVISOR, inherited=False)
print(realtime.of(0), flush=True)
os.system(f"{os.sys.executable} -c 'from shards.runtime import realtime; print(realtime.of(0))'")
realtime.take(0)
print(realtime.of(0))
"""
    )
    assert done.stdout.split() == ["realtime", "normal", "normal"], done


def test_without_the_right_it_is_said_and_the_process_goes_on() -> None:
    without = ("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice")
    program = (
        "import logging; logging.basicConfig()\n"
        "from shards.runtime import realtime\n"
        "realtime.Realtime(1).beat()\nprint(realtime.of(0))"
    )
    done = subprocess.run(
        [*without, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=_no_priority,
    )
    assert done.stdout == "normal\n", done
    assert "real time is refused: Operation not permitted" in done.stderr


def _no_priority() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))


def test_what_is_not_there_has_no_scheduling() -> None:
    assert realtime.of(2**22 + 1) == ""
    assert realtime.of(os.getpid()) == "normal"
