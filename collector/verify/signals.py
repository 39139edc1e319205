"""Ctrl-C: the first ends the current phase cleanly, the second exits at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def first_one_sets() -> Iterator[threading.Event]:
    """Let the first SIGINT or SIGTERM set the event; a second one has its default action."""
    stop = threading.Event()
    before: dict[int, Any] = {}

    def received(number: int, frame: FrameType | None) -> None:
        stop.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, received)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
