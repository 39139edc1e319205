"""What a signal interrupts before everything runs, also where Python would drop an exception."""

import os
import signal
import subprocess
import time

import pytest

from collector.control.signals import Interrupted, Signals
from tests.system.running import COLLECTOR, free_port_pair


class _Finalized:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        # The handler runs in here, and what it raises is dropped.
        time.sleep(0.01)


def _wait(signals: Signals) -> None:
    with signals.interruptible():
        _Finalized()
        time.sleep(20)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_that_python_drops_comes_again() -> None:
    with Signals() as signals:
        with pytest.raises(Interrupted):
            _wait(signals)
        time.sleep(0.7)  # longer than an interruption takes to come again
    assert signals.stop


def test_outside_a_wait_a_signal_only_asks_to_stop() -> None:
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.stop
        with pytest.raises(Interrupted), signals.interruptible():
            pytest.fail("it came before")


def test_a_signal_to_the_whole_group_ends_a_start_without_a_traceback() -> None:
    """As `timeout` and a service manager send it: the template has the handler of its parent."""
    publish = f"tcp://127.0.0.1:{free_port_pair()}"
    with subprocess.Popen(
        [*COLLECTOR, "start", "--state", "none", "--publish", publish],
        start_new_session=True, stderr=subprocess.PIPE, text=True,
    ) as start:  # fmt: skip
        assert start.stderr is not None
        said = ""
        while "for the markets of local" not in said:
            line = start.stderr.readline()
            assert line, said
            said += line
        os.killpg(start.pid, signal.SIGTERM)
        said += start.stderr.read()
    assert (start.returncode, "Traceback" in said) == (0, False), said
