"""Numbers as people read them at a glance: units, thousands, few digits, one width. Pure."""

from datetime import UTC, datetime


def rate(per_s: float) -> str:
    """At most six characters up to a million: ``0.4``, ``12``, ``12,345``."""
    return f"{per_s:.1f}" if per_s < 9.95 else f"{per_s:,.0f}"


def micros(us: float) -> str:
    """Seven characters: ``  123 µs``, ``1.23 ms``, ``12.3 s``."""
    if us < 999.5:
        return f"{us:4.0f} µs"
    for unit, size in (("ms", 1e3), ("s ", 1e6)):
        value = us / size
        if value < 9.995:
            return f"{value:4.2f} {unit}"
        if value < 99.95:
            return f"{value:4.1f} {unit}"
        if value < 999.5:
            return f"{value:4.0f} {unit}"
    return "> 999 s"


def megabytes(mb: float) -> str:
    """Seven characters: `` 123 MB``, ``1.23 GB``."""
    return f"{mb:4.0f} MB" if mb < 999.5 else f"{mb / 1024:4.2f} GB"


def duration(s: float) -> str:
    """At most six characters: ``0.4 s``, ``59 s``, ``12m03s``, ``2h05m``, ``3d04h``."""
    if s < 9.95:
        return f"{s:.1f} s"
    whole = round(s)
    if whole < 60:
        return f"{whole} s"
    for unit, smaller, size in (("m", "s", 60), ("h", "m", 3600), ("d", "h", 86400)):
        if whole < size * (60 if unit == "m" else 24) or unit == "d":
            step = {"m": 1, "h": 60, "d": 3600}[unit]
            return f"{whole // size}{unit}{whole % size // step:02}{smaller}"
    raise AssertionError("unreachable")


def clock(ts_s: float) -> str:
    """Local time of day."""
    return datetime.fromtimestamp(ts_s, tz=UTC).astimezone().strftime("%H:%M:%S")


def sparkline(values: "list[float] | tuple[float, ...]", width: int, *, top: float = 0.0) -> str:
    """
    Draw the newest values, the last one to the right; exactly `width` characters.

    The highest bar is `top`, or the largest value if that is more.
    """
    bars = "▁▂▃▄▅▆▇█"
    shown = values[-width:] if width > 0 else []
    highest = max([top, *shown])
    steps = [min(7, max(0, int(value / highest * 8))) if highest > 0 else 0 for value in shown]
    return "".join(bars[step] for step in steps).rjust(width)


def trim(number: str) -> str:
    """Leave out a decimal text's trailing zeros."""
    return number.rstrip("0").rstrip(".") if "." in number else number


def aligned(texts: list[str]) -> list[str]:
    """Line decimal texts up at their points, all of one width."""
    parts = [trim(text).partition(".") for text in texts]
    whole = max((len(before) for before, _, _ in parts), default=0)
    fraction = max((len(point + after) for _, point, after in parts), default=0)
    return [before.rjust(whole) + (point + after).ljust(fraction) for before, point, after in parts]
