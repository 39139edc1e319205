"""
The state shown to all clients: kept once, versioned.

Everything put on the board gets the current version. A client that names the last version it has
seen receives what came later, whatever it missed in between: a slow client skips states instead of
accumulating them. Pure: instants are passed as arguments.
"""

import math
from collections import deque
from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Final, TypeVar

from collector.aggregator.telemetry.journal import Entry
from collector.aggregator.telemetry.time_series import Point
from collector.client.summary import Summary
from collector.web.summary_subset import essentials

EVENTS: Final = 300
POINTS: Final = 3_600
LIVE_POINTS: Final = 60
"""Points sent at once; a client that missed more requests the history."""
ACTIVITY_HALF_S: Final = 2.0
"""Half-life of a market's activity when nothing more happens."""
_EDGES: Final = (0.02, 0.3, 1.0, 3.0)
"""Events per second that separate the activity levels 0 to 4."""

_Kept = TypeVar("_Kept", Entry, Point)

Row = tuple[str, str, int, str, int]
"""Symbol, state, shard, reason, trades plus book changes so far, from the aggregator."""
Cell = tuple[str, int, int, str]
"""State, activity level, shard, reason: what the grid shows of a market."""


class _Market:
    """One market of the grid."""

    __slots__ = ("cell", "count", "speed", "version")

    def __init__(self) -> None:
        self.cell: Cell = ("pending", 0, -1, "")
        self.count = -1
        self.speed = 0.0
        """Events per second, smoothed."""
        self.version = 0

    def take(self, row: Row, elapsed_s: float) -> bool:
        """Take a market's row; return whether the grid shows it differently now."""
        _, state, shard, reason, count = row
        if self.count >= 0 and elapsed_s > 0:
            # A restarted aggregator counts from 0.
            new = count - self.count if count >= self.count else count
            fade = 0.5 ** (elapsed_s / ACTIVITY_HALF_S)
            self.speed = self.speed * fade + new / elapsed_s * (1 - fade)
        self.count = count
        cell = (state, level(self.speed), shard, reason)
        changed = cell != self.cell
        self.cell = cell
        return changed


def level(events_per_s: float) -> int:
    """Return the activity level, 0 (still) to 4."""
    return sum(events_per_s >= edge for edge in _EDGES)


class ViewModel:
    """The collector as the page shows it."""

    def __init__(self) -> None:
        self.version = 0
        self._status: tuple[int, dict[str, Any]] = 0, {}
        self._silent: tuple[int, int | None] = 0, None
        self._silent_why: tuple[int, str] = 0, ""
        self._cells: tuple[int, list[dict[str, Any]]] = 0, []
        self._listed: tuple[int, list[str]] = 0, []
        self._markets: dict[str, _Market] = {}
        self._taken_at = -math.inf
        self._events: deque[tuple[int, Entry]] = deque(maxlen=EVENTS)
        self.last_event = 0
        self._points: deque[tuple[int, Point]] = deque(maxlen=POINTS)

    # ---- what comes in --------------------------------------------------------------

    def status(self, summary: Summary) -> None:
        """Take the summary."""
        self.version += 1
        self._status = self.version, essentials(summary)

    def grid(self, rows: Iterable[Row], now: float) -> None:
        """Take a row for each market; ``now`` is monotonic seconds."""
        self.version += 1
        if self._silent[1] is not None:
            self._silent = self.version, None
        elapsed_s, self._taken_at = now - self._taken_at, now
        before, self._markets = self._markets, {}
        # By name, so that a market keeps its place when the collector's order changes.
        for row in sorted(rows, key=itemgetter(0)):
            market = before.get(row[0]) or _Market()
            self._markets[row[0]] = market
            if market.take(row, elapsed_s):
                market.version = self.version
        if list(before) != list(self._markets):
            # The grid refers to markets by index in this list, so all cells are sent again.
            self._listed = self.version, list(self._markets)
            for market in self._markets.values():
                market.version = self.version

    def silent(self, since_ms: int, why: str = "") -> None:
        """Note that the collector does not answer, since when (Unix ms), and why, if it said so."""
        # Repeated each time: a page that receives nothing at all knows that it is cut off.
        self.version += 1
        self._silent = self.version, since_ms
        if why != self._silent_why[1]:
            self._silent_why = self.version, why

    def cells_are(self, rows: list[dict[str, Any]]) -> None:
        """Take how the cells stand beside each other; empty for a single cell."""
        if rows != self._cells[1]:
            self.version += 1
            self._cells = self.version, rows

    def another_cell(self) -> None:
        """Another cell is asked from now on: its journal has ids of its own."""
        self.version += 1
        self._events.clear()
        self.last_event = 0

    def events(self, entries: Iterable[Entry], last: int) -> None:
        """Take entries of the journal, oldest first; a last id below ours starts over."""
        self.version += 1
        if last < self.last_event:
            self._events.clear()
        self._events.extend((self.version, entry) for entry in entries)
        self.last_event = last

    def points(self, points: Iterable[Point]) -> None:
        """Take points of the time series, oldest first; known ones are skipped."""
        self.version += 1
        newest = self.last_point
        self._points.extend((self.version, point) for point in points if point.ts > newest)

    def clock_is(self, ts: int) -> None:
        """Discard points in the future: the clock was set back."""
        while self.last_point > ts + 1:
            self._points.pop()

    # ---- what is known --------------------------------------------------------------

    @property
    def last_point(self) -> int:
        """Start of the newest point, Unix seconds; 0 without points."""
        return self._points[-1][1].ts if self._points else 0

    def history(self, since: float) -> list[Point]:
        """Return the points since an instant."""
        return [point for _, point in self._points if point.ts >= since]

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._markets

    def changes(self, seen: int) -> dict[str, Any]:
        """Return what changed after a version; empty if nothing did."""
        if seen == self.version:
            return {}
        found: dict[str, Any] = {}
        for name, (version, value) in (
            ("status", self._status),
            ("silent_since", self._silent),
            ("silent_why", self._silent_why),
            ("listing", self._listed),
            ("collectors", self._cells),
        ):
            if version > seen:
                found[name] = value
        cells = [
            (place, *market.cell)
            for place, market in enumerate(self._markets.values())
            if market.version > seen
        ]
        if cells:
            found["cells"] = cells
        if events := _newer(self._events, seen, EVENTS):
            found["events"] = events
        if points := _newer(self._points, seen, LIVE_POINTS):
            found["points"] = points
        return found


def _newer(kept: "deque[tuple[int, _Kept]]", seen: int, limit: int) -> list[_Kept]:
    """Return the newest entries after a version, oldest first."""
    found: list[_Kept] = []
    for version, entry in reversed(kept):
        if version <= seen or len(found) == limit:
            break
        found.append(entry)
    return found[::-1]
