"""The range that a reader asks for: heights, or instants in ns. Pure."""

import datetime
import operator
from typing import Any, Final, TypeAlias

Bound: TypeAlias = int | str | datetime.datetime | datetime.date | None
"""A height, or an instant: a datetime, a date, or either as ISO 8601 text, UTC unless it says so."""

EVER: Final = 1 << 62


def bounds(start: Bound, end: Bound) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Return the heights, or else the instants in ns, that are asked for; None where any."""
    first, last = _bound(start), _bound(end)
    kinds = {kind for kind, _ in (first, last) if kind}
    if len(kinds) > 1:
        raise ValueError(f"start={start!r} and end={end!r}: give two heights or two instants")
    bounds = (first[1], last[1] if last[0] else EVER)
    if bounds[0] > bounds[1]:
        raise ValueError(f"start={start!r} is after end={end!r}")
    if kinds == {"height"}:
        return bounds, None
    return None, bounds if kinds else None


def _bound(value: Bound) -> tuple[str, int]:
    if value is None:
        return "", 0
    if isinstance(value, str):
        return "time", _clipped(parse_instant(value))
    if isinstance(value, datetime.date):
        return "time", _clipped(instant_of(value))
    try:
        # NumPy's whole numbers too: a height is often taken from a table.
        return "height", _clipped(operator.index(value))
    except TypeError:
        text = f"{value!r} is neither a height nor an instant: give an int or a datetime"
        raise ValueError(text) from None


def _clipped(number: int) -> int:
    """Keep a bound within what a column holds: nothing is before 0, nor after 2116."""
    return min(max(0, number), EVER)


def parse_instant(text: str) -> int:
    """
    Return an instant, given as ISO 8601, in ns; UTC unless it says so.

    Raises:
        ValueError: If it is no instant.

    """
    try:
        value = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a height nor an instant (ISO 8601)") from None
    return instant_of(value)


def instant_of(value: datetime.date) -> int:
    """Return a datetime, or a date's midnight, in ns; UTC unless it says so."""
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime.combine(value, datetime.time())
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    since: Any = value - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    ns = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000
    # Only pandas has nanoseconds.
    return int(ns + getattr(since, "nanoseconds", 0))
