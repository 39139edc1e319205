"""
Lines of toned text, one terminal column to a character. Pure.

A tone is what a piece of text means (``stale``, ``price``); `tones` says how it looks.
"""

from itertools import groupby, zip_longest
from typing import NamedTuple, TypeAlias
from unicodedata import east_asian_width

from shards.protocol.text import stays_in_place


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    tone: str = ""


Line: TypeAlias = tuple[Span, ...]


def printable(text: str) -> str:
    """Put ``?`` for what does not take exactly one column: anybody may name a market."""
    return "".join(
        c if stays_in_place(c) and east_asian_width(c) not in "WF" else "?" for c in text
    )


def clip(text: str, width: int) -> str:
    """Make a text exactly so wide; one that is cut ends in ``…``."""
    if len(text) <= width:
        return text.ljust(width)
    return text[: width - 1] + "…" if width > 0 else ""


def plain(line: Line) -> str:
    """Return a line's text."""
    return "".join(span.text for span in line)


def fit(line: Line, width: int) -> Line:
    """Make a line exactly so wide."""
    spans: list[Span] = []
    left = width
    for span in line:
        if left <= 0:
            break
        spans.append(span if len(span.text) <= left else Span(clip(span.text, left), span.tone))
        left -= len(span.text)
    if left > 0:
        spans.append(Span(" " * left))
    return tuple(spans)


def spread(left: Line, right: Line, width: int) -> Line:
    """Put one line to the left and, if there is room for both, another to the right."""
    room = width - len(plain(right))
    if len(plain(left)) >= room:
        return fit(left, width)
    return (*fit(left, room), *right)


def section(left: Line, width: int, right: Line = ()) -> Line:
    """Make the line that is above a section."""
    return tuple(Span(text, f"section {tone}".strip()) for text, tone in spread(left, right, width))


def change(old: Line, new: Line) -> tuple[int, int] | None:
    """
    Say which columns of a line are to be drawn again: the first one, and how many.

    Textual sends a widget's line from its start to the last column asked for, so that there is
    nothing to be gained by naming several parts of it.
    """
    if old == new:
        return None
    before, after = _columns(old), _columns(new)
    differing = [
        column for column, (one, other) in enumerate(zip_longest(before, after)) if one != other
    ]
    return (differing[0], differing[-1] - differing[0] + 1) if differing else None


def merged(line: Line) -> Line:
    """Join neighbours of one tone: each change of tone costs some twenty bytes to send."""
    return tuple(
        Span("".join(span.text for span in spans), tone)
        for tone, spans in groupby(line, key=lambda span: span.tone)
    )


def _columns(line: Line) -> list[tuple[str, str]]:
    return [(character, span.tone) for span in line for character in span.text]
