"""
Each market's state over time: the last hour per second, the last week per minute.

Three bytes per market and point, in arrays: a week of three hundred markets takes 12 MB.
Completeness is not stored but computed from the missing blocks and the head at that time. Pure.
"""

from array import array
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from collector.aggregator.telemetry.time_series import MINUTES, SECONDS

_STATES: Final = ("", "pending", "syncing", "live", "stale", "failed", "inactive")
"""By code; 0: the market was not collected."""
_CODES: Final = {state: code for code, state in enumerate(_STATES)}
_MOST: Final = 65_535
"""More missing blocks than this are stored as this."""


class MarketNow(NamedTuple):
    """One market now."""

    symbol: str
    state: str
    missing: int


class _Grain:
    """The columns of one grain; all are of one length."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.ts = array("q")
        self.heads = array("q")
        self.markets: dict[str, tuple[array[int], array[int]]] = {}
        """By symbol: a byte, and the missing blocks."""

    def add(self, ts: int, head: int, rows: Iterable[tuple[str, int, int]]) -> None:
        """Add a point; markets without a row get zeros."""
        while self.ts and self.ts[-1] >= ts:
            # The clock was set back: discard points in the future.
            self._drop_newest()
        self.ts.append(ts)
        self.heads.append(head)
        length = len(self.ts)
        for symbol, value, missing in rows:
            columns = self.markets.get(symbol)
            if columns is None:
                before = length - 1
                columns = array("B", bytes(before)), array("H", bytes(2 * before))
                self.markets[symbol] = columns
            columns[0].append(value)
            columns[1].append(min(missing, _MOST))
        for values, missings in self.markets.values():
            if len(values) < length:
                values.append(0)
                missings.append(0)
        # Only occasionally, because it moves everything that stays.
        if length > self._limit + self._limit // 8:
            self._forget(length - self._limit)

    def _drop_newest(self) -> None:
        self.ts.pop()
        self.heads.pop()
        for values, missings in self.markets.values():
            values.pop()
            missings.pop()

    def _forget(self, number: int) -> None:
        del self.ts[:number], self.heads[:number]
        for symbol, (values, missings) in list(self.markets.items()):
            del values[:number], missings[:number]
            if not any(values):
                del self.markets[symbol]

    def since(self, ts: float) -> int:
        """Return the index of the first point at or after an instant, within the limit."""
        at = len(self.ts)
        oldest = max(0, at - self._limit)
        while at > oldest and self.ts[at - 1] >= ts:
            at -= 1
        return at


class MarketTimeSeries:
    """Both grains of every market."""

    def __init__(self) -> None:
        self._seconds = _Grain(SECONDS)
        self._minutes = _Grain(MINUTES)
        self._minute = 0
        self._live: dict[str, int] = {}
        """Seconds of this minute that each market was live."""
        self._missing: dict[str, int] = {}
        self._looks = 0

    def add(self, ts: int, head: int, markets: Iterable[MarketNow]) -> None:
        """Take one second, ``ts`` in unix seconds."""
        if self._looks and ts // 60 != self._minute:
            self._end_minute(head)
        self._minute = ts // 60
        self._looks += 1
        live, rows = self._live, []
        for symbol, state, missing in markets:
            rows.append((symbol, _CODES.get(state, 0), missing))
            live[symbol] = live.get(symbol, 0) + (state == "live")
            self._missing[symbol] = missing
        self._seconds.add(ts, head, rows)

    def _end_minute(self, head: int) -> None:
        # Stored plus one: 0 means "not collected", 1 "never live".
        rows = [
            (symbol, 1 + round(200 * seconds / self._looks), self._missing[symbol])
            for symbol, seconds in self._live.items()
        ]
        self._minutes.add(self._minute * 60, head, rows)
        self._live, self._missing, self._looks = {}, {}, 0

    def answer(self, symbol: str, first: int, *, grain: str, since: float) -> dict[str, Any]:
        """
        Return a market's columns; ``first`` is the height at which it joined, 0 before that.

        Per second ``state``, per minute ``live`` (the share of the minute); ``missing`` blocks and
        ``completeness`` at that time. Empty for an unknown symbol.
        """
        kept, grain_s = (self._seconds, 1) if grain == "second" else (self._minutes, 60)
        at = kept.since(since)
        values, missings = kept.markets.get(symbol, (array("B"), array("H")))
        told: dict[str, Any] = {"symbol": symbol, "grain_s": grain_s}
        told["ts"] = kept.ts[at:].tolist() if values else []
        if grain == "second":
            told["state"] = [_STATES[code] for code in values[at:]]
        else:
            told["live"] = [max(0, value - 1) / 200 for value in values[at:]]
        told["missing"] = missings[at:].tolist()
        told["completeness"] = [
            1.0 - missing / (head - first + 1) if first and head >= first else 0.0
            for head, missing in zip(kept.heads[at:], missings[at:], strict=False)
        ]
        return told
