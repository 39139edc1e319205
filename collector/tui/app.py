"""The application: asks all the time, shows one picture at a time."""

import os
import time
from collections.abc import Sequence
from typing import ClassVar

import msgspec
from textual.app import App
from textual.binding import Binding, BindingType

from collector.settings.addresses import endpoints_of
from collector.tui.market_rows import MarketRow
from collector.tui.market_screen import MarketPage
from collector.tui.panels import Grid
from collector.tui.polling import poll
from collector.tui.screens import EventLog, Help, Overview, PictureScreen
from collector.tui.view_model import Picture, Watched


class Top(App[None]):
    """
    Watches the cells that publish at `connect`: one in detail, all of them in a line each.

    Raises:
        ValueError: If one of them is neither a tcp nor an ipc endpoint.

    """

    TITLE = "collector top"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (150, "-wide")]  # noqa: RUF012 - as textual has it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]
    CSS = """
    Screen { background: #14181c; color: #e4e8ec; }
    Footer { background: #262c33; }
    """

    def __init__(self, connect: str, patterns: Sequence[str] = ()) -> None:
        # Without colours textual would paint greys; on the terminal's own it leaves them out.
        super().__init__(ansi_color="NO_COLOR" in os.environ)
        self.connect = connect
        self.animation_level = "none"
        self._cells = [(at, Watched(at, time.time())) for at in endpoints_of(connect)]
        self._chosen = 0
        self.picture = self.latest()
        self.paused = False
        self._overview = Overview(patterns)

    def on_mount(self) -> None:
        """Show the overview and begin to ask."""
        self.push_screen(self._overview)
        for endpoint, watched in self._cells:
            self.run_worker(poll(endpoint, watched, self._seen))

    def latest(self) -> Picture:
        """Return the current picture, also during a pause."""
        ts = time.time()
        picture = self._cells[self._chosen][1].picture(time.monotonic(), ts)
        if len(self._cells) == 1:
            return picture
        cells = tuple(watched.glance(ts) for _, watched in self._cells)
        return msgspec.structs.replace(picture, cells=cells, chosen=self._chosen)

    def action_cell(self) -> None:
        """Show the next cell in detail."""
        self._chosen = (self._chosen + 1) % len(self._cells)
        self.picture = self.latest()
        self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer the next cell only if there are several."""
        return action != "cell" or len(self._cells) > 1

    def _seen(self) -> None:
        """Show the current picture, unless paused."""
        if not self.paused:
            self.picture = self.latest()
            self._show()

    def _show(self) -> None:
        if isinstance(self.screen, PictureScreen):
            self.screen.show(self.picture, paused=self.paused)

    def action_pause(self) -> None:
        """Pause or resume the screen."""
        self.paused = not self.paused
        self._show()

    def action_events(self) -> None:
        """Show all events."""
        self.push_screen(EventLog())

    def action_help(self) -> None:
        """Explain keys and marks."""
        self.push_screen(Help())

    def on_grid_opened(self, message: Grid.Opened) -> None:
        """Open a market's page."""
        grid = self._overview.grid
        self.push_screen(MarketPage(grid.rows[grid.cursor]))

    def neighbour(self, row: MarketRow, by: int) -> MarketRow:
        """Choose the market that stands beside another in the grid."""
        grid = self._overview.grid
        grid.chosen = row.market_id
        grid.step(by, 0)
        return grid.rows[grid.cursor] if grid.cursor >= 0 else row
