"""The application: asks all the time, shows one picture at a time."""

import os
import time
from collections.abc import Sequence
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from collector.settings.parts import requests_endpoint
from collector.tui.market_screen import MarketPage
from collector.tui.panels import Grid
from collector.tui.polling import poll
from collector.tui.rows import MarketRow
from collector.tui.screens import EventLog, Help, Overview, PictureScreen
from collector.tui.view_model import Picture, Watched


class Top(App[None]):
    """
    Watches the collector that publishes at `connect`.

    Raises:
        ValueError: If that is neither a tcp nor an ipc endpoint.

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
        self._requests = requests_endpoint(connect)
        self.animation_level = "none"
        self._watched = Watched(connect, time.time())
        self.picture = self.latest()
        self.paused = False
        self._overview = Overview(patterns)

    def on_mount(self) -> None:
        """Show the overview and begin to ask."""
        self.push_screen(self._overview)
        self.run_worker(poll(self._requests, self._watched, self._seen))

    def latest(self) -> Picture:
        """Return the current picture, also during a pause."""
        return self._watched.picture(time.monotonic(), time.time())

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
