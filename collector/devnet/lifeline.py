"""What may interrupt a process here: its signals, and lines or the end of a pipe."""

import os
import selectors
import signal
from collections.abc import Iterable
from types import FrameType


class Lifeline:
    """
    Wait for signals and pipes at once.

    `wait` gives what came: a signal as its number, a pipe as the bytes read from it, empty at
    its end. Build it first thing in the process: a signal is kept until somebody waits.
    """

    def __init__(self, *, signals: Iterable[signal.Signals], pipes: Iterable[int] = ()) -> None:
        self._selector = selectors.DefaultSelector()
        # The wake-up pipe carries each signal's number, written by Python's own C handler.
        self._wakeups, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, _noted)
        self._selector.register(self._wakeups, selectors.EVENT_READ)
        for pipe in pipes:
            self.watch(pipe)

    def watch(self, pipe: int) -> None:
        """Wait for this pipe too, until its end."""
        self._selector.register(pipe, selectors.EVENT_READ)

    def wait(self, timeout_s: float | None = None) -> list[tuple[int | None, bytes | int]]:
        """Give what came as (pipe, bytes) and (None, signal); nothing if the time ran out."""
        came: list[tuple[int | None, bytes | int]] = []
        for key, _ in self._selector.select(timeout_s):
            data = os.read(key.fd, 65536)
            if key.fd == self._wakeups:
                came.extend((None, number) for number in data)
                continue
            if not data:
                self._selector.unregister(key.fd)
            came.append((key.fd, data))
        return came


def _noted(number: int, frame: FrameType | None) -> None:
    """Do nothing: the number is in the wake-up pipe already."""
