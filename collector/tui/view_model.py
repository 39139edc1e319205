"""
The state of a running collector: answers in, a picture out. Pure.

Activity and age are computed here from successive answers.
"""

import math
from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from collector.aggregator.telemetry.journal import Entry
from collector.aggregator.telemetry.time_series import Point
from collector.client.market_status import MarketStatus
from collector.client.summary import Summary
from collector.tui.cell_rows import CellGlance
from collector.tui.market_rows import MarketRow

_SMOOTH_S: Final = 10.0
"""Time constant with which a market's activity fades."""
_STEPS: Final = (0.02, 0.25, 1.0)
"""Changes per block that separate the levels; the first: one change in the last half minute."""
_STICKY: Final = 0.5
"""How far below a step the rate must fall before the level drops, to avoid flicker."""
_RATE_OVER_S: Final = 5.0
HISTORY: Final = 300
"""Seconds of history kept for the sparklines."""
EVENTS: Final = 1_000


class Answers(msgspec.Struct, frozen=True):
    """The aggregator's answers of one poll."""

    summary: Summary
    markets: list[MarketStatus]
    events: list[Entry]
    points: list[Point]


class Picture(msgspec.Struct, frozen=True):
    """The state at one moment."""

    ts: float
    """Unix time at which it was taken."""
    endpoint: str = ""
    silent_since: float | None = None
    """Unix time of the last answer, or of the start, if the last question got none."""
    silent_why: str = ""
    """Why it got none, if the collector said so."""
    answered: bool = False
    """Whether there ever was an answer; otherwise what follows is empty."""
    summary: Summary = Summary()
    frames_per_s: float = 0.0
    markets: tuple[MarketRow, ...] = ()
    points: tuple[Point, ...] = ()
    events: tuple[Entry, ...] = ()
    """From old to new."""
    cells: tuple[CellGlance, ...] = ()
    """All cells, if there are several; the rest is of the chosen one."""
    chosen: int = 0
    """The place of the chosen cell."""


class _Pace:
    """How busy one market is, and since when its height has not grown."""

    __slots__ = ("changes", "grown_at", "height", "level", "per_s")

    def __init__(self, changes: int, height: int, now: float) -> None:
        self.changes = changes
        self.height = height
        self.grown_at = now
        self.per_s = 0.0
        self.level = 0

    def take(self, changes: int, height: int, now: float, elapsed_s: float, block_s: float) -> None:
        """Take what the market counts now."""
        if height != self.height:
            self.height, self.grown_at = height, now
        if elapsed_s > 0:
            # A restarted aggregator counts from 0.
            fresh = max(0, changes - self.changes) / elapsed_s
            self.per_s += (fresh - self.per_s) * (1 - math.exp(-elapsed_s / _SMOOTH_S))
        self.changes = changes
        self.level = level(self.level, self.per_s * block_s)


def level(before: int, per_block: float) -> int:
    """Return the activity level, 0 to 3, with hysteresis."""
    return sum(
        per_block >= step * (_STICKY if place < before else 1.0)
        for place, step in enumerate(_STEPS)
    )


class Watched:
    """Everything that `collector top` shows."""

    def __init__(self, endpoint: str, ts: float) -> None:
        self._endpoint = endpoint
        self._answered_ts = ts
        self._silent = False
        self._why = ""
        self._answers: Answers | None = None
        self._taken_at = 0.0
        self._paces: dict[str, _Pace] = {}
        self._published: deque[tuple[float, int]] = deque()
        self._events: deque[Entry] = deque(maxlen=EVENTS)
        self._points: deque[Point] = deque(maxlen=HISTORY)

    def take(self, answers: Answers, now: float, ts: float) -> None:
        """Take what the aggregator said; `now` is monotonic, `ts` Unix time."""
        before, self._answers = self._answers, answers
        self._answered_ts, self._silent = ts, False
        published = answers.summary.frames.published
        if before is None or _epoch(before) != _epoch(answers):
            # Another aggregator, which counts from the start.
            self._published.clear()
        elapsed_s = now - self._taken_at if before is not None else 0.0
        self._taken_at = now
        self._published.append((now, published))
        while len(self._published) > 2 and self._published[0][0] < now - _RATE_OVER_S:
            self._published.popleft()
        block_s = answers.summary.block_time_s or 1.0
        for row in answers.markets:
            changes = (row.trades or 0) + (row.book_updates or 0)
            pace = self._paces.setdefault(row.market_id, _Pace(changes, row.height, now))
            pace.take(changes, row.height, now, elapsed_s, block_s)
        if answers.events and answers.events[0].id <= self.last_event:
            # A new journal: its numbers begin again.
            self._events.clear()
        self._events.extend(answers.events)
        self._points.extend(answers.points)

    def silent(self, why: str = "") -> None:
        """Note that a request was not answered; ``why`` is what the collector said instead."""
        self._silent, self._why = True, why

    @property
    def last_event(self) -> int:
        """Id of the newest event that is known; ask for those after it."""
        return self._events[-1].id if self._events else 0

    def since(self, ts: float) -> int:
        """Unix second from which on history is not known yet, of what is kept here at `ts`."""
        while self._points and self._points[-1].ts > ts + 1:
            # The clock was set back: those instants are still to come.
            self._points.pop()
        known = self._points[-1].ts + 1 if self._points else 0
        return max(known, int(ts) - HISTORY)

    def glance(self, ts: float) -> CellGlance:
        """Return how the cell stands, in short."""
        summary = None if self._answers is None else self._answers.summary
        silent_s = max(0.0, ts - self._answered_ts) if self._silent else None
        return CellGlance(self._endpoint, summary, silent_s)

    def picture(self, now: float, ts: float) -> Picture:
        """Return the current state."""
        answers = self._answers
        silent_since = self._answered_ts if self._silent else None
        if answers is None:
            return Picture(ts, self._endpoint, silent_since, self._why)
        return Picture(
            ts,
            self._endpoint,
            silent_since,
            self._why,
            answered=True,
            summary=answers.summary,
            frames_per_s=self._frames_per_s(),
            markets=tuple(self._rows(answers.markets, now)),
            points=tuple(self._points),
            events=tuple(self._events),
        )

    def _frames_per_s(self) -> float:
        (first_at, first), (last_at, last) = self._published[0], self._published[-1]
        return max(0, last - first) / (last_at - first_at) if last_at > first_at else 0.0

    def _rows(self, rows: Iterable[MarketStatus], now: float) -> Iterable[MarketRow]:
        for row in rows:
            pace = self._paces[row.market_id]
            yield MarketRow(
                **{name: getattr(row, name) for name in MarketRow.FROM_ANSWER},
                sequence=row.sequence or 0,
                trades=row.trades or 0,
                book_updates=row.book_updates or 0,
                per_s=pace.per_s,
                level=pace.level,
                age_s=now - pace.grown_at,
            )


def _epoch(answers: Answers) -> int:
    return answers.summary.publisher_epoch
