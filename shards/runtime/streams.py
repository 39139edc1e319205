"""Make stdin, stdout and stderr usable, however the process was started."""

import contextlib
import io
import os
import sys


def prepare() -> None:
    """
    Open closed streams, and keep unprintable characters from raising.

    Otherwise the first socket opened would become stderr, and log lines would be written to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # `open` takes the lowest free number, which is this one.
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            number = 1 if name == "stdout" else 2
            setattr(sys, name, os.fdopen(os.dup(number), "w", errors="replace"))
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="replace")
