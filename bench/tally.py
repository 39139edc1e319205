"""A client's counts, and how to query them: ``mark`` on stdin prints one line of JSON."""

import asyncio
import os
import sys
import time
from typing import Any, Final

import msgspec

_SEEN: Final = 400_000


class Tally:
    """Updates since the last mark; with times, when each was handed to its consumer."""

    def __init__(self, *, times: bool = False) -> None:
        self._times = times
        self.clear()

    def clear(self) -> None:
        """Reset the counts."""
        self.updates = 0
        self.first = 0
        self.last = 0
        self.seen: list[tuple[int, int, int]] = []

    def note(self, height: int, updates: int) -> None:
        """Count updates of one block that were handed over together."""
        if not updates:
            return
        self.updates += updates
        self.last = time.time_ns()
        self.first = self.first or self.last
        if self._times and len(self.seen) < _SEEN:
            self.seen.append((height, updates, self.last))

    def report(self) -> dict[str, Any]:
        """Return the counts and reset them; times in ns."""
        report = {
            "updates": self.updates,
            "first": self.first,
            "last": self.last,
            "seen": self.seen,
        }
        self.clear()
        return report


def say(answer: Any) -> None:
    """Print one line of JSON."""
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.flush()


def obey(line: bytes, tally: Tally) -> bool:
    """Carry out a line; False at the end of stdin."""
    if not line:
        return False
    say(tally.report())
    return True


async def until_told(tally: Tally) -> None:
    """Answer marks until stdin ends."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def readable() -> None:
        lines = os.read(0, 1 << 16)
        if not lines:
            loop.remove_reader(0)
            ended.set()
        for _ in range(lines.count(b"\n")):
            say(tally.report())

    loop.add_reader(0, readable)
    await ended.wait()
