"""What an examination finds: one line for each thing that was looked at."""

from typing import Final, Literal

import msgspec

Verdict = Literal["fine", "note", "bad"]
"""``note``: it works, and could be better; ``bad``: the collector would not do what it promises."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    """In one word: ``clock``, ``files``, or the list that an endpoint is in."""
    verdict: Verdict
    text: str
    """One sentence: how it is, and what to do if it is not fine."""


def fine(what: str, text: str) -> Finding:
    """Say that it is as it should be."""
    return Finding(what, "fine", text)


def note(what: str, text: str) -> Finding:
    """Say that it works, and what would be better."""
    return Finding(what, "note", text)


def bad(what: str, text: str) -> Finding:
    """Say what is wrong, and what to do."""
    return Finding(what, "bad", text)


_UNITS: Final = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def size(count: float) -> str:
    """Print a number of bytes for people."""
    for unit, factor in _UNITS:
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} bytes"


def span(seconds: float) -> str:
    """Print a duration for people."""
    for unit, length in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1_000 * seconds:.1f} ms"
