"""
As process 1 of a container: act as its init, and run the program as a child.

The kernel gives process 1 every orphan of the container, and no default signal actions. The init
reaps orphans, passes signals on, and exits with the program's code. It forks before anything else
is imported.
"""

import contextlib
import os
import signal
from typing import Final

_PASSED_ON: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def be_init() -> None:
    """Fork if this is process 1: only the child returns."""
    if os.getpid() != 1:
        return
    # A signal that arrives before there is a child waits until it can be passed on.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        return
    for number in _PASSED_ON:
        signal.signal(number, lambda number, _: _pass_on(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    os._exit(_wait_for(child))


def _pass_on(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


def _wait_for(child: int) -> int:
    """Reap every process; return the exit code once the program has ended."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            # By the shells' convention: 128 plus the signal.
            return code if code >= 0 else 128 - code
