"""
The live status block of `collector start` in a terminal; plain log lines in a pipe.

While the block is shown, everything that this process and its children write to stderr goes
through a pipe and is printed above it, line by line.
"""

import contextlib
import io
import logging
import os
import sys
import threading
import time
from types import TracebackType
from typing import Any, Final, Self

from collector.client.summary import Summary
from collector.tui.summary_text import block_lines, is_started, one_line, progress_line

log = logging.getLogger(__name__)

_LINE_EVERY_S: Final = 10.0
_PROGRESS_EVERY_S: Final = 2.0
_BAR: Final = 40


class _Terminal(io.TextIOWrapper):
    """
    A terminal that may show fewer characters than we have, and that may be closed meanwhile.

    Then the run is about to end by SIGHUP, in order; what is still written is lost.
    """

    def __init__(self, descriptor: int) -> None:
        encoding = sys.stderr.encoding
        super().__init__(os.fdopen(os.dup(descriptor), "wb"), encoding, errors="replace")

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class StatusBlock:
    """Shows each summary: redrawn in place in a terminal, an occasional line elsewhere."""

    def __init__(self, *, live: bool = True) -> None:
        self._wanted = live
        self._live: Any = None
        self._terminal = -1
        self._printer: threading.Thread
        self._line_at = 0.0
        self._published = 0
        self._shown_at = 0.0
        self._began = time.monotonic()
        self._starting = True
        self._rate = 0.0

    def __enter__(self) -> Self:
        if self._wanted and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            sys.stderr.flush()
            self._terminal = os.dup(2)
            reader, writer = os.pipe()
            os.dup2(writer, 2)
            os.close(writer)
            screen = Console(file=_Terminal(self._terminal), highlight=False)
            self._live = Live(
                console=screen,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="visible",
            )
            self._live.start()
            self._printer = threading.Thread(target=self._print_lines, args=(reader,), daemon=True)
            self._printer.start()
        return self

    def _print_lines(self, reader: int) -> None:
        with os.fdopen(reader, errors="replace") as lines:
            for line in lines:
                self._live.console.print(line.rstrip("\n"), markup=False)

    def announce(self, text: str) -> None:
        """Print a line that stays."""
        if self._live is not None:
            self._live.console.print(text, markup=False)
        else:
            for line in text.splitlines():
                log.info("%s", line)

    def show(self, summary: Summary) -> None:
        """Show the current summary."""
        now = time.monotonic()
        self._measure(summary, now)
        if self._starting and is_started(summary) and not summary.away_s:
            self._starting = False
            text = f"{progress_line(summary)} after {now - self._began:.1f} s"
            self.announce(text)
        if self._live is not None:
            from rich.text import Text

            lines = block_lines(summary, self._rate)
            if self._starting:
                lines.insert(1, f"starting  {progress_line(summary, bar=_BAR)}")
            self._live.update(Text("\n".join(lines)), refresh=True)
        elif now - self._line_at >= (_PROGRESS_EVERY_S if self._starting else _LINE_EVERY_S):
            self._line_at = now
            is_away = summary.away_s >= 1.0
            starts = self._starting and not is_away
            text = progress_line(summary) if starts else one_line(summary, self._rate)
            log.info("%s", text)

    def _measure(self, summary: Summary, now: float) -> None:
        """Frames per second since the last summary that is at least a second old."""
        published = summary.frames.published
        if now - self._shown_at >= 1.0 or published < self._published:
            if self._shown_at and published >= self._published:
                self._rate = (published - self._published) / (now - self._shown_at)
            self._published, self._shown_at = published, now

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            sys.stderr.flush()
            # This closes the pipe's last writer, so the printer ends.
            os.dup2(self._terminal, 2)
            self._printer.join(timeout=1.0)
            self._live.stop()
            os.close(self._terminal)
