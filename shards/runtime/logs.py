"""
Logging of all processes: to stderr, as text or as one JSON object per line.

We log transitions, not messages; still, a flapping server can repeat a line a hundred times per
second. The first few lines of a kind are written and the rest are counted; the count is written
when the flood is over.
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
"""Longest line, in characters."""
_BURST: Final = 10
"""Lines of one kind written per window; the rest are counted."""
_WINDOW_S: Final = 10.0
"""Length of that window."""

_Kind: TypeAlias = tuple[str, int, str]


class _Window:
    __slots__ = ("began", "count")

    def __init__(self, began: float) -> None:
        self.began = began
        self.count = 0


class Floods:
    """
    Decides which lines are written. Lines are alike if they come from the same statement,
    whatever their arguments. Pure; ``now`` is seconds of any clock.
    """

    def __init__(self, burst: int = _BURST, window_s: float = _WINDOW_S) -> None:
        self._burst = burst
        self._window_s = window_s
        self._windows: dict[_Kind, _Window] = {}

    def admits(self, kind: _Kind, now: float) -> bool:
        """Count a line; return whether to write it."""
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = _Window(now)
        window.count += 1
        return window.count <= self._burst

    def over(self, now: float) -> list[tuple[_Kind, int]]:
        """Return the suppressed lines of finished windows, and forget them."""
        ended = [k for k, w in self._windows.items() if now - w.began >= self._window_s]
        counted = [(kind, self._windows.pop(kind).count - self._burst) for kind in ended]
        return [(kind, more) for kind, more in counted if more > 0]


class Handler(logging.StreamHandler[TextIO]):
    """Writes to stderr, with floods suppressed."""

    def __init__(
        self,
        floods: Floods | None = None,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stream or sys.stderr)
        self._floods = floods or Floods()
        self._clock = clock
        self._latest: dict[_Kind, logging.LogRecord] = {}
        """The last suppressed line of each kind."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or only count it."""
        now = self._clock()
        self._tell(now)
        kind = (record.name, record.levelno, str(record.msg))
        if self._floods.admits(kind, now):
            super().emit(record)
        else:
            self._latest[kind] = record

    def _tell(self, now: float) -> None:
        for kind, more in self._floods.over(now):
            name, level, template = kind
            latest = self._latest.pop(kind, None)
            said = "%d more lines like this one were suppressed: %s"
            arguments = (more, _message(latest) if latest else template)
            super().emit(logging.LogRecord(name, level, "", 0, said, arguments, None))

    def close(self) -> None:
        """Write the counts not reported yet."""
        self._tell(float("inf"))
        super().close()


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        # Its arguments do not fit its format. It was never written, so do not fail here either.
        return str(record.msg)


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
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
    """A line for people; foreign text in it cannot break the line or control a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
        record.message = printable(without_secrets(record.message), _LONGEST)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return a traceback's lines."""
        lines = without_secrets(super().formatException(ei)).split("\n")
        return "\n".join(printable(line, _LONGEST) for line in lines)


def configure(process: str, *, level: str, form: LogFormat) -> None:
    """Set up this process's logging under its name."""
    handler = Handler()
    if form == "json":
        handler.setFormatter(JsonFormatter(process))
    else:
        handler.setFormatter(TextFormatter(f"%(asctime)s {process} %(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    # It reports every connection; ours say which and why.
    logging.getLogger("picows").setLevel(logging.WARNING)
