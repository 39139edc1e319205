"""The screens: the overview, the event log, the help."""

from collections.abc import Sequence
from typing import ClassVar, Protocol, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Footer, Input, Static

from collector.tui.cell_rows import height
from collector.tui.grid import VIEWS
from collector.tui.market_rows import ORDERS, MarketRow
from collector.tui.panels import Cells, Events, Grid, Headline, Panel, Processes
from collector.tui.view_model import Picture

_PROCESSES, _EVENTS, _GRID = 6, 4, 3
"""Lines of each on a small screen: of processes at most, of the others at least."""


class Application(Protocol):
    """What the screens need of the application (app.py), which imports them."""

    connect: str
    """Where the collector publishes."""
    picture: Picture
    paused: bool

    def neighbour(self, row: MarketRow, by: int) -> MarketRow:
        """Choose the market that stands beside another in the grid."""
        ...


class PictureScreen(Screen[None]):
    """A screen that shows every picture in its panels."""

    @property
    def top(self) -> Application:
        """The application."""
        return cast("Application", self.app)

    def on_screen_resume(self) -> None:
        """Show the current state."""
        self.show(self.top.picture, paused=self.top.paused)

    def show(self, picture: Picture, *, paused: bool) -> None:
        """Show a picture."""
        for panel in self.query(Panel):
            panel.show(picture, paused=paused)


class Overview(PictureScreen):
    """Everything at a glance."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "market"),
        Binding("s", "sort", "sort"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("v", "view", "view"),
        Binding("p", "app.pause", "pause"),
        Binding("e", "app.events", "events"),
        Binding("c", "app.cell", "cell"),
        Binding("question_mark", "app.help", "help", key_display="?"),
        Binding("q", "app.quit", "quit"),
        Binding("left,h", "step(-1,0)", show=False),
        Binding("right,l", "step(1,0)", show=False),
        Binding("up,k", "step(0,-1)", show=False),
        Binding("down,j", "step(0,1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "choose(0)", show=False),
        Binding("end", "choose(1000000)", show=False),
        Binding("escape", "clear", show=False),
    ]
    AUTO_FOCUS = ""
    CSS = """
    Overview { layout: vertical; }
    #headline { height: 5; }
    #cells { height: 0; }
    #body { height: 1fr; layout: vertical; }
    #side { height: 1fr; layout: vertical; }
    #events { height: 1fr; }
    Overview.-wide #body { layout: horizontal; }
    Overview.-wide #grid { width: 1fr; }
    Overview.-wide #side { width: 50%; height: 100%; margin-left: 1; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    #filter.asked { display: block; }
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        super().__init__()
        # Kept here rather than looked up: the last picture may come while the screen is closed.
        self.grid = Grid(patterns, id="grid")
        self._cells = Cells(id="cells")
        self._processes = Processes(id="processes")
        self._side = Container(self._processes, Events(id="events"), id="side")
        self._body = Container(self.grid, self._side, id="body")
        self._filter = Input(
            placeholder="a state, active, quiet, dead, shard:N, part of a symbol, a glob",
            id="filter",
        )
        self._filter.cursor_blink = False
        self._heights: dict[Widget, int | str] = {}

    def compose(self) -> ComposeResult:
        """Put the panels together."""
        yield Headline(id="headline")
        yield self._cells
        yield self._body
        yield self._filter
        yield Footer(show_command_palette=False)

    def show(self, picture: Picture, *, paused: bool) -> None:
        """Show a picture."""
        super().show(picture, paused=paused)
        self._share_out()

    def _share_out(self) -> None:
        """Give processes and markets the lines that they need, and the events what is left."""
        narrow = not self.has_class("-wide")
        lines = len(self.grid.picture.summary.processes) + 1
        processes = min(lines, _PROCESSES) if narrow else lines
        room = self._body.size.height - processes - _EVENTS
        grid = max(_GRID, self.grid.wanted(room)) if narrow else "100%"
        cells = height(self.grid.picture.cells)
        for panel, lines_of in (
            (self._cells, cells), (self._processes, processes), (self.grid, grid),
        ):  # fmt: skip
            if self._heights.get(panel) != lines_of:
                self._heights[panel] = panel.styles.height = lines_of

    def on_resize(self) -> None:
        """Distribute the lines again, once the body has its size."""
        self.call_after_refresh(self._share_out)

    def action_step(self, columns: int, lines: int) -> None:
        """Choose a neighbour."""
        self.grid.step(columns, lines)

    def action_page(self, pages: int) -> None:
        """Choose a market some screenfuls away."""
        self.grid.page(pages)

    def action_choose(self, place: int) -> None:
        """Choose a market by its place."""
        self.grid.choose(place)

    def action_open(self) -> None:
        """Open the page of the chosen market."""
        self.grid.open()

    def action_sort(self) -> None:
        """Sort by the next order."""
        self.grid.order = ORDERS[(ORDERS.index(self.grid.order) + 1) % len(ORDERS)]
        self.grid.rearrange()

    def action_view(self) -> None:
        """Show names, or marks only, or whichever fits."""
        self.grid.view = VIEWS[(VIEWS.index(self.grid.view) + 1) % len(VIEWS)]
        self.grid.again()
        self._share_out()

    def action_filter(self) -> None:
        """Ask for a filter."""
        self._filter.add_class("asked")
        self._filter.focus()

    def action_clear(self) -> None:
        """Leave the filter's field, or if that is left already, drop the filter."""
        if not self._filter.has_class("asked"):
            self._filter.value = ""
        self._leave()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while one types."""
        self.grid.text = event.value.strip()
        self.grid.rearrange()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter."""
        self._leave()

    def _leave(self) -> None:
        self._filter.remove_class("asked")
        self.set_focus(None)


class EventLog(PictureScreen):
    """All events that are known."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,e,backspace", "app.pop_screen", "back", key_display="esc"),
        Binding("up,k", "back(1)", "older", key_display="↑"),
        Binding("down,j", "back(-1)", "newer", key_display="↓"),
        Binding("p", "app.pause", "pause"),
        Binding("question_mark", "app.help", "help", key_display="?"),
        Binding("q", "app.quit", "quit"),
        Binding("pageup", "pages(1)", show=False),
        Binding("pagedown", "pages(-1)", show=False),
        Binding("home", "back(1000000)", show=False),
        Binding("end", "back(-1000000)", show=False),
    ]
    CSS = "EventLog Headline { height: 5; } EventLog Events { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self._log = Events()

    def compose(self) -> ComposeResult:
        """Put the panels together."""
        yield Headline()
        yield self._log
        yield Footer(show_command_palette=False)

    def action_back(self, by: int) -> None:
        """Go back in time."""
        self._log.scroll_back(by)

    def action_pages(self, pages: int) -> None:
        """Go back in time by screenfuls."""
        self._log.scroll_back(pages * max(1, self._log.size.height - 2))


_HELP = """\
[b]Keys[/b]
arrows, hjkl   choose a market; page up and down, home, end too
enter          its page; there left and right go to its neighbours
s              sort: symbol, state, activity, shard, age
/              filter: a state, active, quiet, dead, shard:N, part of a symbol
v              names, marks only, or what fits
c              the next cell, if --connect names several
p              pause: the screen stands still, asking goes on
e   esc   q    all events, back, quit

[b]Marks[/b]
░ ▒ ▓ █        live: quiet, changes now and then, often, in every block
X              stale: cut, mute, or its shard is gone
F              failed: the node refused the subscription
S              syncing: waits for its book or for lost blocks
P              pending: not confirmed yet
-              inactive: paused or delisted, not counted

[b]Words[/b]
age            since a market's last block; a quiet market hears empty blocks
coverage       live markets of those that should be, now and over time
completeness   blocks had of blocks due
p99            from the socket to the aggregator, in the last second"""


class Help(ModalScreen[None]):
    """The keys and the marks."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "app.pop_screen", "back", key_display="esc"),
    ]
    CSS = """
    Help { align: center middle; }
    #help { width: 80; max-width: 100%; height: auto; max-height: 100%; background: #262c33; }
    """

    def compose(self) -> ComposeResult:
        """Show the text."""
        yield Static(_HELP, id="help")
