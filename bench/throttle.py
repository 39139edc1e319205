"""Give a process a fraction of a core: stop and continue it periodically."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

PERIOD_S = 0.2


@contextlib.contextmanager
def throttled(pids: list[int], share: float) -> Iterator[None]:
    """Let some processes run only this share of the time; 1.0 changes nothing."""
    stop = threading.Event()

    def signal_all(number: int) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def turn() -> None:
        while not stop.wait(PERIOD_S * share):
            signal_all(signal.SIGSTOP)
            stop.wait(PERIOD_S * (1 - share))
            signal_all(signal.SIGCONT)
        signal_all(signal.SIGCONT)

    if share >= 1.0:
        yield
        return
    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
