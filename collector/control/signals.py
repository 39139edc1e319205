"""How a run handles SIGINT, SIGTERM and SIGHUP."""

import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, Final, TypeAlias

log = logging.getLogger(__name__)

_AGAIN_S: Final = 0.5

Interruptible: TypeAlias = Callable[[], AbstractContextManager[None]]
"""Creates a block that a signal may interrupt: `Signals.interruptible`."""


class Interrupted(BaseException):
    """A signal interrupted the run: it came before all was running, or was the second one."""


class Signals:
    """SIGINT, SIGTERM and SIGHUP: the first asks to stop, the second forces it."""

    def __init__(self) -> None:
        self.stop = False
        self.forced = False
        self._may_interrupt = False
        self._before: dict[int, Any] = {}
        self.reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    def __enter__(self) -> "Signals":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Under nohup SIGHUP is ignored, and stays so.
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._received)
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._interrupt)
        return self

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """
        Let the first signal interrupt the block; for waits before everything is running.

        Outside such blocks the first signal only sets `stop`. An exception between a folder's
        creation and the line that remembers it would leave the folder behind.

        Raises:
            Interrupted: When the signal arrives; at once if it came before the block.

        """
        self._may_interrupt = True
        try:
            if self.stop:
                raise Interrupted
            yield
        finally:
            self._may_interrupt = False
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.forced:
            # The second signal has already been handled.
            return
        if self.stop:
            log.warning("forced to stop: what the shards still have is not handed over")
            self.forced = True
            raise Interrupted
        self.stop = True
        with contextlib.suppress(BlockingIOError):
            self._writer.send(b"!")
        self._interrupt()

    def _interrupt(self, *_: object) -> None:
        """Interrupt the block; repeat it a moment later if the block still runs."""
        if self._may_interrupt:
            # Python drops an exception that is raised in a finalizer or in a callback from C.
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
            raise Interrupted

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.reader.close()
        self._writer.close()
