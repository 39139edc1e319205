"""A widget of toned lines that redraws only the columns that changed."""

from collections.abc import Sequence
from functools import cache

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from collector.tui.spans import Line, change
from collector.tui.tones import LOOKS


class Canvas(Widget):
    """Shows the lines that it is given."""

    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.drawn: list[Line] = []

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines instead of those that are there."""
        before, self.drawn = self.drawn, list(lines)
        spans = {
            y: change(_line(before, y), _line(self.drawn, y))
            for y in range(max(len(before), len(self.drawn)))
        }
        regions = [Region(span[0], y, span[1], 1) for y, span in spans.items() if span]
        if regions:
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        """Turn a line into what textual sends to the terminal."""
        segments = [Segment(text, _style(tone)) for text, tone in _line(self.drawn, y)]
        strip = Strip(segments).adjust_cell_length(self.size.width)
        return strip.apply_style(self.rich_style)


def _line(lines: Sequence[Line], y: int) -> Line:
    return lines[y] if y < len(lines) else ()


@cache
def _style(tone: str) -> Style:
    """Join the looks of a tone's words; there are some dozens of tones in all."""
    return sum((Style.parse(LOOKS.get(word, "")) for word in tone.split()), Style.null())
