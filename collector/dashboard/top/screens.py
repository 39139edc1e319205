"""The screens: the overview, the event log, the help."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Input, Static

from collector.dashboard.top.grid import VIEWS
from collector.dashboard.top.panels import Events, Grid, Headline, Panel, Processes
from collector.dashboard.top.rows import ORDERS
from collector.dashboard.top.watched import Picture

if TYPE_CHECKING:
    from collector.dashboard.top.app import Top

_PROCESSES = 6
"""Lines of processes on a small screen, at most."""


class PictureScreen(Screen[None]):
    """A screen that shows every picture in its panels."""

    @property
    def top(self) -> "Top":
        """The application."""
        return cast("Top", self.app)

    def on_screen_resume(self) -> None:
        """Show how things stand by now."""
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
    #body { height: 1fr; layout: vertical; }
    #side { height: auto; layout: vertical; }
    #grid { height: 1fr; min-height: 4; }
    #processes { height: 3; }
    #events { height: 4; }
    Overview.-wide #body { layout: horizontal; }
    Overview.-wide #grid { width: 1fr; height: 100%; }
    Overview.-wide #side { width: 100; height: 100%; margin-left: 1; }
    Overview.-wide #events { height: 1fr; }
    #filter { height: 1; border: none; padding: 0; display: none; }
    #filter.asked { display: block; }
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        super().__init__()
        self._patterns = patterns

    def compose(self) -> ComposeResult:
        """Put the panels together."""
        yield Headline(id="headline")
        with Container(id="body"):
            yield Grid(self._patterns, id="grid")
            with Container(id="side"):
                yield Processes(id="processes")
                yield Events(id="events")
        filter_ = Input(placeholder="a state, shard:N, part of a symbol, or a glob", id="filter")
        filter_.cursor_blink = False
        yield filter_
        yield Footer(show_command_palette=False)

    @property
    def grid(self) -> Grid:
        """The grid of markets."""
        return self.query_one(Grid)

    def show(self, picture: Picture, *, paused: bool) -> None:
        """Show a picture, with a line for each process while they are few."""
        processes = self.query_one(Processes)
        lines = len(picture.summary.get("processes", [])) + 1
        height = lines if self.has_class("-wide") else min(lines, _PROCESSES)
        if processes.styles.height is None or processes.styles.height.value != height:
            processes.styles.height = height
        super().show(picture, paused=paused)

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

    def action_filter(self) -> None:
        """Ask for a filter."""
        field = self.query_one(Input)
        field.add_class("asked")
        field.focus()

    def action_clear(self) -> None:
        """Leave the filter's field, or if that is left already, drop the filter."""
        field = self.query_one(Input)
        if not field.has_class("asked"):
            field.value = ""
        self._leave(field)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while one types."""
        self.grid.text = event.value.strip()
        self.grid.rearrange()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter."""
        self._leave(event.input)

    def _leave(self, field: Input) -> None:
        field.remove_class("asked")
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

    def compose(self) -> ComposeResult:
        """Put the panels together."""
        yield Headline()
        yield Events()
        yield Footer(show_command_palette=False)

    def action_back(self, by: int) -> None:
        """Go back in time."""
        self.query_one(Events).scroll_back(by)

    def action_pages(self, pages: int) -> None:
        """Go back in time by screenfuls."""
        log = self.query_one(Events)
        log.scroll_back(pages * max(1, log.size.height - 2))


_HELP = """\
[b]Keys[/b]
arrows, h j k l, page up/down, home, end   choose a market      enter   its page
s   sort by symbol, state, activity, shard, age       v   names, or marks only
/   filter: a state, shard:N, part of a symbol, a glob; esc drops it
p   pause: the screen stands still, asking goes on    e   all events
q   quit          On a market's page: left and right to its neighbours, esc back

[b]Marks[/b]
░ ▒ ▓ █   live: nothing for a while, now and then, often, in every block
S  syncing: waits for its book or for lost blocks     P  pending: not confirmed yet
X  stale: cut, mute, or its shard is gone             F  failed: refused by the node
-  inactive: paused or delisted, not counted

[b]Words[/b]
age   since the market's last block; a quiet market hears empty blocks and stays young
coverage   live markets now, and over time     completeness   blocks had of those due
p99   from the socket to the aggregator"""


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
