"""
Each market's state over time: the last hour per second, the last week per minute.

Three bytes per market and point, in arrays: a week of three hundred markets takes 12 MB. A market
that stays as it is costs nothing: its columns are extended when it changes or is asked for.
Completeness is not stored but computed from the missing blocks and the head at that time. Pure.
"""

from array import array
from collections.abc import Collection, Iterable
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


class _Column:
    """
    One market in one grain: a byte for each point, and the missing blocks.

    It ends where the newest value began: nothing is written while the market stays as it is.
    """

    __slots__ = ("missing", "missings", "value", "values")

    def __init__(self) -> None:
        self.values = array("B")
        self.missings = array("H")
        self.value = self.missing = 0

    def put(self, length: int, value: int, missing: int) -> None:
        """Have these values from the point with this index on."""
        if value != self.value or missing != self.missing:
            self.fill(length)
            self.value, self.missing = value, missing

    def fill(self, length: int) -> None:
        """Write out the newest value, up to so many points."""
        more = length - len(self.values)
        if more > 0:
            self.values.extend(array("B", (self.value,)) * more)
            self.missings.extend(array("H", (self.missing,)) * more)

    def cut(self, points: slice) -> None:
        """Remove points."""
        del self.values[points], self.missings[points]


class _Grain:
    """The columns of one grain."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.ts = array("q")
        self.heads = array("q")
        self.markets: dict[str, _Column] = {}
        """By symbol."""

    def add(self, ts: int, head: int, rows: Collection[tuple[str, int, int]] | None) -> None:
        """Add a point; markets without a row get zeros. Without any rows nothing has changed."""
        while self.ts and self.ts[-1] >= ts:
            # The clock was set back: discard points in the future.
            self._drop_newest()
        if rows is not None:
            self._put(rows, len(self.ts))
        self.ts.append(ts)
        self.heads.append(head)
        # Only occasionally, because it moves everything that stays.
        if len(self.ts) > self._limit + self._limit // 8:
            self._forget(len(self.ts) - self._limit)

    def _put(self, rows: Collection[tuple[str, int, int]], length: int) -> None:
        for symbol, value, missing in rows:
            column = self.markets.get(symbol)
            if column is None:
                column = self.markets[symbol] = _Column()
            column.put(length, value, min(missing, _MOST))
        if len(rows) < len(self.markets):
            for symbol in self.markets.keys() - {symbol for symbol, _, _ in rows}:
                self.markets[symbol].put(length, 0, 0)

    def _drop_newest(self) -> None:
        self.ts.pop()
        self.heads.pop()
        for column in self.markets.values():
            column.cut(slice(len(self.ts), None))

    def _forget(self, number: int) -> None:
        del self.ts[:number], self.heads[:number]
        for symbol, column in list(self.markets.items()):
            column.fill(number)
            column.cut(slice(number))
            if not column.value and not any(column.values):
                del self.markets[symbol]

    def since(self, ts: float) -> int:
        """Return the index of the first point at or after an instant, within the limit."""
        at = len(self.ts)
        oldest = max(0, at - self._limit)
        while at > oldest and self.ts[at - 1] >= ts:
            at -= 1
        return at

    def column(self, symbol: str) -> tuple["array[int]", "array[int]"]:
        """Return one market's values and missing blocks, as many as points; empty if unknown."""
        column = self.markets.get(symbol, _Column())
        if symbol in self.markets:
            column.fill(len(self.ts))
        return column.values, column.missings


class _Minute:
    """One market in the current minute."""

    __slots__ = ("is_here", "is_live", "missing", "seconds", "since")

    def __init__(self) -> None:
        self.is_here = self.is_live = False
        self.missing = 0
        self.seconds = 0
        """Seconds of this minute that it was live, before it was last found to be live."""
        self.since = 0
        """The second of this minute since which it is live."""

    def put(self, second: int, state: str, missing: int) -> None:
        """Take its state from this second of the minute on."""
        self.missing = missing
        self.is_here = bool(state)
        is_live = state == "live"
        if is_live != self.is_live:
            self.seconds += second - self.since if self.is_live else 0
            self.is_live, self.since = is_live, second

    def end(self, second: int) -> int:
        """End the minute after so many seconds; return how many it was live."""
        seconds = self.seconds + (second - self.since if self.is_live else 0)
        self.seconds = self.since = 0
        return seconds


class MarketTimeSeries:
    """Both grains of every market."""

    def __init__(self) -> None:
        self._seconds = _Grain(SECONDS)
        self._minutes = _Grain(MINUTES)
        self._minute = 0
        self._markets: dict[str, _Minute] = {}
        self._looks = 0

    def add(self, ts: int, head: int, markets: Iterable[MarketNow] | None) -> None:
        """Take one second, ``ts`` in unix seconds; None if all markets are as they were."""
        if self._looks and ts // 60 != self._minute:
            self._end_minute(head)
        self._minute = ts // 60
        rows = None
        if markets is not None:
            rows = [(m.symbol, _CODES.get(m.state, 0), m.missing) for m in markets]
            self._put(rows)
        self._looks += 1
        self._seconds.add(ts, head, rows)

    def _put(self, rows: Collection[tuple[str, int, int]]) -> None:
        for symbol, code, missing in rows:
            minute = self._markets.get(symbol)
            if minute is None:
                minute = self._markets[symbol] = _Minute()
            minute.put(self._looks, _STATES[code], missing)
        if len(rows) < len(self._markets):
            for symbol in self._markets.keys() - {symbol for symbol, _, _ in rows}:
                self._markets[symbol].put(self._looks, "", 0)

    def _end_minute(self, head: int) -> None:
        # Stored plus one: 0 means "not collected", 1 "never live".
        rows = [
            (symbol, 1 + round(200 * minute.end(self._looks) / self._looks), minute.missing)
            for symbol, minute in self._markets.items()
        ]
        self._minutes.add(self._minute * 60, head, rows)
        self._markets = {
            symbol: minute for symbol, minute in self._markets.items() if minute.is_here
        }
        self._looks = 0

    def answer(self, symbol: str, first: int, *, grain: str, since: float) -> dict[str, Any]:
        """
        Return a market's columns; ``first`` is the height at which it joined, 0 before that.

        Per second ``state``, per minute ``live`` (the share of the minute); ``missing`` blocks and
        ``completeness`` at that time. Empty for an unknown symbol.
        """
        kept, grain_s = (self._seconds, 1) if grain == "second" else (self._minutes, 60)
        at = kept.since(since)
        values, missings = kept.column(symbol)
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
