"""What SIGINT, SIGTERM and SIGHUP ask of a run."""

import contextlib
import logging
import signal
import socket
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)


class Interrupted(BaseException):
    """A signal ends what we are doing: it came before everything was running, or is the second."""


class Signals:
    """SIGINT, SIGTERM and SIGHUP: the first asks to stop, the second forces it."""

    def __init__(self) -> None:
        self.booting = True
        self.stop = False
        self.forced = False
        self._before: dict[int, Any] = {}
        self.reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    def __enter__(self) -> "Signals":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Under nohup SIGHUP is ignored, and stays so.
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._received)
        return self

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.forced:
            # It is being done.
            return
        if self.stop:
            log.warning("forced to stop: what the shards still have is not handed over")
            self.forced = True
            raise Interrupted
        self.stop = True
        with contextlib.suppress(BlockingIOError):
            self._writer.send(b"!")
        if self.booting:
            raise Interrupted

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.reader.close()
        self._writer.close()
