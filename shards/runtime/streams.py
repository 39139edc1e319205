"""stdin, stdout and stderr that can be used, however we were started."""

import contextlib
import io
import os
import sys


def prepare() -> None:
    """
    Open what is closed, and let no character that a terminal lacks end us.

    Without it the first socket that is opened becomes stderr, and is written to.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free: this one.
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            number = 1 if name == "stdout" else 2
            setattr(sys, name, os.fdopen(os.dup(number), "w", errors="replace"))
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="replace")
