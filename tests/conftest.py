"""One devnet serves all system tests of a run: booting it is the dear part."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from tests import needs
from tests.scheduling import (  # noqa: F401 - hooks
    asks_the_node,
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_report_header,
    pytest_runtest_setup,
    pytest_xdist_auto_num_workers,
    pytest_xdist_make_scheduler,
)
from tests.system.running import Devnet, devnet, signals_kept

# No test takes up, or leaves behind, what is kept for the user.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="t-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)
# Tests start hundreds of processes: none is to compile all modules for itself.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A shell's background jobs ignore Ctrl-C, those of nohup a hangup, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


# On a busy machine an example may take any time; tests of speed are in bench/. Examples are the same
# in each run, so that a run judges the change and not its luck: `search` looks for others.
_ANY_TIME: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("any time", _ANY_TIME, derandomize=True)
settings.register_profile("search", _ANY_TIME)
settings.load_profile("any time")


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """A command that a test runs in its own process must not leave its handlers to the next test."""
    with signals_kept():
        yield


_booted = ExitStack()


@pytest.fixture(scope="session")
def node() -> Iterator[Devnet]:
    """A devnet of 12 spot and 4 perpetual markets, two of them quiet, under normal traffic."""
    with _booted:
        yield _booted.enter_context(devnet("--quiet-markets", "2", "--block-time", "0.5"))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End a worker's devnet with the last test that asks it: it takes half a core."""
    if not hasattr(item.config, "workerinput") or nextitem is None:
        return
    if asks_the_node(item) and not asks_the_node(nextitem):
        _booted.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """End with what this machine could not prove, and how it could."""
    needs.summarize(terminalreporter)
