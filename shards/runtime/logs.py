"""
How every process of the collector logs: to stderr, as text or one JSON object a line.

Transitions are logged, not messages; still a server that flaps can make the same line come a
hundred times a second. The first few of a kind are written, the others counted, and the count
is written when the flood has gone by.
"""

import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO, TypeAlias

import msgspec

from shards.protocol.settings import LogFormat
from shards.protocol.text import printable, without_secrets

_LONGEST: Final = 8_000
"""Characters of a line."""
_BURST: Final = 10
"""So many lines of a kind are written …"""
_WINDOW_S: Final = 10.0
"""… in so long; those beyond are counted."""

_Kind: TypeAlias = tuple[str, int, str]


class _Window:
    __slots__ = ("began", "count")

    def __init__(self, began: float) -> None:
        self.began = began
        self.count = 0


class Floods:
    """
    Which lines are written. Lines are alike if they come of the same statement, whatever
    numbers are in them. Pure: ``now`` is seconds, of any one clock.
    """

    def __init__(self, burst: int = _BURST, window_s: float = _WINDOW_S) -> None:
        self._burst = burst
        self._window_s = window_s
        self._windows: dict[_Kind, _Window] = {}

    def admits(self, kind: _Kind, now: float) -> bool:
        """Count a line; say whether it is to be written."""
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = _Window(now)
        window.count += 1
        return window.count <= self._burst

    def over(self, now: float) -> list[tuple[_Kind, int]]:
        """Return what was not written in windows that are over, and forget them."""
        ended = [k for k, w in self._windows.items() if now - w.began >= self._window_s]
        counted = [(kind, self._windows.pop(kind).count - self._burst) for kind in ended]
        return [(kind, more) for kind, more in counted if more > 0]


class Handler(logging.StreamHandler[TextIO]):
    """Writes to stderr what is no flood."""

    def __init__(
        self,
        floods: Floods | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stream or sys.stderr)
        self._floods = floods or Floods()
        self._clock = clock

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it."""
        now = self._clock()
        self._tell(now)
        if self._floods.admits((record.name, record.levelno, str(record.msg)), now):
            super().emit(record)

    def _tell(self, now: float) -> None:
        for (name, level, text), more in self._floods.over(now):
            said = "%d more lines like this one were not written: %s"
            super().emit(logging.LogRecord(name, level, "", 0, said, (more, text), None))

    def close(self) -> None:
        """Write what was counted and not told yet."""
        self._tell(float("inf"))
        super().close()


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC)
        line = {
            "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = without_secrets(self.formatException(record.exc_info))
        return msgspec.json.encode(line).decode()


class TextFormatter(logging.Formatter):
    """A line for people; what nodes said in it cannot end the line, nor command a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        record.message = printable(without_secrets(record.message), _LONGEST)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the lines of a traceback."""
        lines = without_secrets(super().formatException(ei)).split("\n")
        return "\n".join(printable(line, _LONGEST) for line in lines)


def configure(process: str, *, level: str, form: LogFormat) -> None:
    """Let this process log under its name."""
    handler = Handler()
    if form == "json":
        handler.setFormatter(JsonFormatter(process))
    else:
        handler.setFormatter(TextFormatter(f"%(asctime)s {process} %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
