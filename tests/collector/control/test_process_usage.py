"""What real processes use."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from collector.control.process_usage import Usage

_PROGRAM = "import sys; kept = bytearray(b'1') * 60_000_000; print(1, flush=True); sys.stdin.read()"


@pytest.fixture
def big() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has 60 MB, and waits."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _PROGRAM], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_is_read_once_a_second_and_its_pss_in_turn(
    big: "subprocess.Popen[bytes]",
) -> None:
    usage = Usage()
    first = usage.read({"shard 0": big.pid, "shard 1": 0}, 0.0)
    assert first.keys() == {"shard 0"}
    use = first["shard 0"]
    assert use.rss_mb > 60
    assert 60 <= use.pss_mb <= use.rss_mb
    assert use.cpu_user_s + use.cpu_system_s > 0
    assert use.threads >= 1
    assert use.fds >= 3
    assert use.switches_voluntary + use.switches_involuntary > 0
    assert usage.read({"shard 0": big.pid}, 0.5) is first
    again = usage.read({"shard 0": big.pid}, 1.0)
    assert again is not first
    assert again["shard 0"].pss_mb > 0


def test_a_process_that_is_gone_uses_nothing(big: "subprocess.Popen[bytes]") -> None:
    usage = Usage()
    usage.read({"shard 0": big.pid}, 0.0)
    big.kill()
    big.wait()
    assert usage.read({"shard 0": big.pid}, 1.0)["shard 0"].rss_mb == 0.0
    assert usage.read({}, 2.0) == {}


def test_a_successor_is_read_under_the_same_name(big: "subprocess.Popen[bytes]") -> None:
    usage = Usage()
    usage.read({"shard 0": big.pid}, 0.0)
    assert usage.read({"shard 0": os.getpid()}, 1.0)["shard 0"].cpu_user_s > 0
