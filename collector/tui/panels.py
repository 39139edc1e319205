"""What the screens are put together from; each turns the picture into its own lines."""

from collections.abc import Sequence
from typing import Final

from textual import events
from textual.message import Message

from collector.tui.canvas import Canvas
from collector.tui.cell_rows import cell_lines
from collector.tui.events import event_lines
from collector.tui.grid import (
    VIEWS,
    Layout,
    first_line,
    grid_lines,
    grid_title,
    layout,
    market_line,
)
from collector.tui.headline import headline
from collector.tui.market_rows import ORDERS, MarketRow, arranged
from collector.tui.process_table import process_lines
from collector.tui.view_model import Picture

_FRAME: Final = 2
"""Lines of the grid that are not cells: its title, and the one about the chosen market."""


class Panel(Canvas):
    """Shows a picture, and the last one again when its size changes."""

    picture = Picture(0.0)
    paused = False

    def show(self, picture: Picture, *, paused: bool = False) -> None:
        """Show this picture from now on."""
        self.picture, self.paused = picture, paused
        self.again()

    def again(self) -> None:
        """Draw what is to be seen of the picture."""
        raise NotImplementedError

    def on_resize(self, event: events.Resize) -> None:
        """Redraw for the new size."""
        self.again()


class Headline(Panel):
    """The top of every screen."""

    def again(self) -> None:
        """Draw the headline."""
        self.draw(headline(self.picture, self.size.width, paused=self.paused))


class Cells(Panel):
    """The cells, if there are several."""

    def again(self) -> None:
        """Draw a line for each."""
        self.draw(cell_lines(self.picture.cells, self.picture.chosen, self.size.width))


class Processes(Panel):
    """The table of processes."""

    def again(self) -> None:
        """Draw as many processes as there is room for."""
        self.draw(process_lines(self.picture, *self.size))


class Events(Panel):
    """The event log, from its end or from `back` events earlier."""

    back = 0

    def again(self) -> None:
        """Draw the newest events."""
        self.draw(event_lines(self.picture.events, *self.size, back=self.back))

    def scroll_back(self, by: int) -> None:
        """Go back in time, or forward if `by` is negative."""
        oldest = max(0, len(self.picture.events) - (self.size.height - 1))
        self.back = max(0, min(oldest, self.back + by))
        self.again()


class Grid(Panel):
    """The markets, one of them chosen."""

    class Opened(Message):
        """Someone wants to see a market's page."""

        def __init__(self, market_id: str) -> None:
            super().__init__()
            self.market_id = market_id

    def __init__(self, patterns: Sequence[str], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._patterns = tuple(patterns)
        self.order = ORDERS[0]
        self.text = ""
        self.view = VIEWS[0]
        self.rows: list[MarketRow] = []
        self.chosen = ""
        """Id of the chosen market: it stays chosen wherever it is sorted to."""
        self._first = 0
        self._shape = Layout(1, 0, 0)

    def show(self, picture: Picture, *, paused: bool = False) -> None:
        """Show the picture's markets."""
        self.picture, self.paused = picture, paused
        self.rearrange()

    def rearrange(self) -> None:
        """Choose and sort the rows, then draw."""
        self.rows = arranged(
            self.picture.markets, order=self.order, patterns=self._patterns, text=self.text
        )
        if self.rows and self.cursor < 0:
            self.chosen = self.rows[0].market_id
        self.again()

    @property
    def cursor(self) -> int:
        """Place of the chosen market among the rows; -1 if it is not there."""
        return next((i for i, row in enumerate(self.rows) if row.market_id == self.chosen), -1)

    def again(self) -> None:
        """Draw title, cells and the line about the chosen market."""
        width, room = self.size.width, max(0, self.size.height - _FRAME)
        shape = self._shape = layout(self.rows, width, room, self.view)
        cursor = self.cursor
        first = first_line(max(0, cursor) // shape.columns, self._first, shape.lines, room)
        self._first = first
        chosen = self.rows[cursor] if cursor >= 0 else None
        counts = len(self.rows), len(self.picture.markets)
        self.draw(
            [
                grid_title(*counts, self.order, self.text, shape, first, width, room),
                *grid_lines(self.rows, cursor, shape, first, width, room),
                market_line(chosen, width) if self.picture.answered else (),
            ]
        )

    def wanted(self, room: int) -> int:
        """Say how many lines all markets take, of `room` that there are."""
        lines = layout(self.picture.markets, self.size.width, room - _FRAME, self.view).lines
        return min(room, lines + _FRAME)

    def step(self, columns: int, lines: int) -> None:
        """Move the choice."""
        self.choose(max(0, self.cursor) + columns + lines * self._shape.columns)

    def page(self, pages: int) -> None:
        """Move the choice by screenfuls."""
        self.step(0, pages * max(1, self.size.height - 3))

    def choose(self, place: int) -> None:
        """Choose the market at a place, or the nearest one there is."""
        if self.rows:
            self.chosen = self.rows[max(0, min(len(self.rows) - 1, place))].market_id
            self.again()

    def open(self) -> None:
        """Ask for the page of the chosen market."""
        if self.cursor >= 0:
            self.post_message(self.Opened(self.chosen))

    def on_click(self, event: events.Click) -> None:
        """Choose the market under the mouse, and open it with a double click."""
        width = self._shape.name + 4 if self._shape.name else 2
        column = event.x // width
        place = (self._first + event.y - 1) * self._shape.columns + column
        if event.y > 0 and column < self._shape.columns and place < len(self.rows):
            self.choose(place)
            if event.chain == 2:
                self.open()

    def on_mouse_scroll_down(self) -> None:
        """Move down by a line."""
        self.step(0, 1)

    def on_mouse_scroll_up(self) -> None:
        """Move up by a line."""
        self.step(0, -1)
