"""The grid of markets: how many cells fit, and what each looks like. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from collector.tui.market_rows import MarketRow
from collector.tui.numbers import duration, rate
from collector.tui.spans import Line, Span, clip, fit, merged, printable, section
from collector.tui.tones import mark, tone_of

_NAME = 20
"""Columns for a symbol at most."""
_SHORT = 7
"""Columns below which a name says nothing."""
VIEWS = ("auto", "names", "marks")


class Layout(NamedTuple):
    """How cells are laid out."""

    columns: int
    lines: int
    name: int
    """Columns for the symbol; 0 where cells are marks only."""


def layout(rows: Sequence[MarketRow], width: int, height: int, view: str) -> Layout:
    """Show names as long as possible, unless the view says otherwise or there is no room."""
    whole = min(_NAME, max((len(row.symbol) for row in rows), default=1), max(1, width - 3))
    shortest = whole if view == "names" else min(whole, _SHORT)
    if view != "marks":
        for name in range(whole, shortest - 1, -1):
            shape = _layout(len(rows), width, name)
            if view == "names" or shape.lines <= height:
                return shape
    return _layout(len(rows), width, 0)


def _layout(number: int, width: int, name: int) -> Layout:
    columns = max(1, (width + 1) // (name + 4 if name else 2))
    return Layout(columns, -(-number // columns), name)


def first_line(cursor_line: int, first: int, lines: int, height: int) -> int:
    """Scroll as little as possible: return the first line to show."""
    first = min(max(first, cursor_line - height + 1), cursor_line)
    return max(0, min(first, lines - height))


def grid_lines(
    rows: Sequence[MarketRow], cursor: int, shape: Layout, first: int, width: int, height: int
) -> list[Line]:
    """Draw the lines of the grid from `first` on, always `height` of them."""
    lines: list[Line] = []
    for line in range(first, first + height):
        start = line * shape.columns
        spans: list[Span] = []
        end = min(start + shape.columns, len(rows))
        for index in range(start, end):
            gap = "" if index == end - 1 else "  " if shape.name else " "
            spans += _cell(rows[index], shape.name, gap, chosen=index == cursor)
        lines.append(merged(fit(tuple(spans), width)))
    return lines


def _cell(row: MarketRow, name: int, gap: str, *, chosen: bool) -> list[Span]:
    """Draw a cell and the gap after it; in few tones, for each costs bytes to send."""
    sign, tone = mark(row.state, row.level), tone_of(row.state, row.level)
    text = f" {clip(printable(row.symbol), name)}" if name else ""
    calm = "label" if row.state == "inactive" or not row.level else ""
    if chosen:
        return [Span(sign, f"{tone} cursor"), Span(text, f"{calm} cursor".strip()), Span(gap)]
    if name:
        return [Span(sign, tone), Span(text + gap, calm)]
    if row.state in ("stale", "failed"):
        # These have a background, which ends with the mark.
        return [Span(sign, tone), Span(gap)]
    return [Span(sign + gap, tone)]


def grid_title(
    shown: int, of: int, order: str, text: str, shape: Layout, first: int, width: int, height: int
) -> Line:
    """Describe what the grid shows, and whether there is more."""
    number = f"{shown:,}" if shown == of else f"{shown:,} of {of:,}"
    left = [Span("MARKETS ", "title"), Span(f"{number}, by {order}")]
    if text:
        left.append(Span(f", filter {printable(text)}", "warn"))
    last = min(first + height, shape.lines)
    right = f"lines {first + 1}–{last} of {shape.lines} " if shape.lines > height else ""  # noqa: RUF001
    return section(tuple(left), width, (Span(right),))


def market_line(row: MarketRow | None, width: int) -> Line:
    """Describe the selected market in one line."""
    if row is None:
        return fit((Span("no market matches", "label"),), width)
    shard = f"shard {row.shard}" if row.shard >= 0 else "no shard"
    return fit(
        (
            Span(mark(row.state, row.level), tone_of(row.state, row.level)),
            Span(f" {printable(row.symbol)}", "title"),
            Span(f"  {row.state}", "" if row.state == "live" else row.state),
            Span(f"  {shard}  block ", "label"),
            Span(f"{row.height:,}"),
            Span("  age ", "label"),
            Span(duration(row.age_s) if row.height else "-"),
            Span("  ", "label"),
            Span(f"{rate(row.per_s)}/s"),
            Span(f"  {printable(row.reason)}", "warn"),
        ),
        width,
    )
