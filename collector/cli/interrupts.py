"""Ctrl-C while modules are imported."""

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def killed_by_ctrl_c() -> Iterator[None]:
    """
    Let Ctrl-C kill the process while it imports, instead of raising an exception.

    Python drops exceptions that are raised in the callbacks of its import locks: the program would
    go on as if it had not been pressed. Elsewhere it would end with a traceback.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        # Ignored, or handled elsewhere.
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
