"""The findings of an examination: one line for each check."""

from typing import Final, Literal

import msgspec

Verdict = Literal["fine", "note", "bad"]
"""``note``: it works, but could be better; ``bad``: the collector would not keep its promises."""


class Finding(msgspec.Struct, frozen=True):
    """The result of one check."""

    what: str
    """One word: ``clock``, ``files``, or the list that contains an endpoint."""
    verdict: Verdict
    text: str
    """One sentence: the result, and what to do if it is not fine."""


def fine(what: str, text: str) -> Finding:
    """Return a finding without fault."""
    return Finding(what, "fine", text)


def note(what: str, text: str) -> Finding:
    """Return a finding that could be improved."""
    return Finding(what, "note", text)


def bad(what: str, text: str) -> Finding:
    """Return a fault, with what to do."""
    return Finding(what, "bad", text)


_UNITS: Final = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def size(count: float) -> str:
    """Format a number of bytes for people."""
    for unit, factor in _UNITS:
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} bytes"


def span(seconds: float) -> str:
    """Format a duration for people."""
    for unit, length in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1_000 * seconds:.1f} ms"
