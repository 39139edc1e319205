"""The page of one market: a subscriber of that market alone, drawn three times a second."""

from collections import deque
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Footer

from collector.client.formatting import describe
from collector.client.received import Received
from collector.client.subscriber import Subscriber
from collector.tui.canvas import Canvas
from collector.tui.ladder import (
    Fill,
    fill_lines,
    funding_text,
    ladder_lines,
    market_lines,
)
from collector.tui.market_rows import MarketRow
from collector.tui.numbers import clock
from collector.tui.panels import Headline
from collector.tui.screens import PictureScreen
from collector.tui.view_model import Picture
from shards.protocol.events import Book, Funding, Trades
from shards.protocol.order_book import OrderBook

_DRAW_S: Final = 0.33
_FILLS: Final = 200
_CHANNELS: Final = ("book", "trades", "funding", "gap")


class MarketPage(PictureScreen):
    """Book, last trades and state of one market."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.pop_screen", "back", key_display="esc"),
        Binding("left,h", "neighbour(-1)", "previous", key_display="←"),
        Binding("right,l", "neighbour(1)", "next", key_display="→"),
        Binding("p", "app.pause", "pause"),
        Binding("e", "app.events", "events"),
        Binding("question_mark", "app.help", "help", key_display="?"),
        Binding("q", "app.quit", "quit"),
    ]
    CSS = """
    MarketPage Headline { height: 1; }
    MarketPage #header { height: 3; }
    MarketPage #sides { height: 1fr; }
    MarketPage #ladder { width: 1fr; max-width: 100; }
    MarketPage #trades { width: 1fr; margin-left: 1; min-width: 41; }
    """

    def __init__(self, row: MarketRow) -> None:
        super().__init__()
        self.row = row
        self.header, self.ladder, self.trades = (
            Canvas(id=name) for name in ("header", "ladder", "trades")
        )
        self.book: OrderBook | None = None
        self.fills: deque[Fill] = deque(maxlen=_FILLS)
        self._notice = ""
        self._funding: Funding | None = None
        self._settled = False
        """Whether the book is drawn: from then on a pause holds this page too."""

    def compose(self) -> ComposeResult:
        """Put the panels together."""
        yield Headline()
        yield self.header
        yield Horizontal(self.ladder, self.trades, id="sides")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to follow the market."""
        self._open(self.row)
        self.set_interval(_DRAW_S, self._draw)

    def show(self, picture: Picture, *, paused: bool) -> None:
        """Take the market's row from the picture."""
        super().show(picture, paused=paused)
        same = (row for row in picture.markets if row.market_id == self.row.market_id)
        self.row = next(same, self.row)

    def on_resize(self) -> None:
        """Draw for the new size, also during a pause."""
        self._settled = False
        self.call_after_refresh(self._draw)

    def action_neighbour(self, by: int) -> None:
        """Go to the market that stands beside this one in the grid."""
        self._open(self.top.neighbour(self.row, by))

    def _open(self, row: MarketRow) -> None:
        self.row, self.book, self._settled = row, None, False
        self.fills.clear()
        self._notice, self._funding = "waiting for the book", None
        self.run_worker(self._follow(row.symbol), exclusive=True)
        self._draw()

    async def _follow(self, symbol: str) -> None:
        """Keep the book and the trades until another market is opened or this page is left."""
        try:
            with Subscriber(
                self.top.connect, markets=[symbol], channels=_CHANNELS, keep_books=True
            ) as subscriber:
                async for received in subscriber:
                    self._take(received)
                    self.book = subscriber.book(symbol)
        except ValueError as error:
            self._notice = str(error)

    def _take(self, received: Received) -> None:
        event = received.event
        if isinstance(event, Trades):
            self.fills += [
                Fill(event.ts_event / 1e9, trade.side, trade.price, trade.quantity)
                for trade in event.trades
            ]
        elif isinstance(event, Funding):
            self._funding = event
        elif not isinstance(event, Book):
            self._notice = f"{clock(received.ts_sub / 1e9)}  {describe(event)}"
        elif event.is_snapshot:
            self._notice = ""

    def _draw(self) -> None:
        if self.top.paused and self._settled:
            return
        bids, asks = self.book.levels() if self.book else ([], [])
        sequence = self.book.sequence if self.book else 0
        said = self._notice
        if not said and self._funding:
            said = funding_text(self._funding, self.top.picture.ts)
        self.header.draw(market_lines(self.row, sequence, said, self.header.size.width))
        self.ladder.draw(ladder_lines(bids, asks, *self.ladder.size))
        self.trades.draw(fill_lines(self.fills, *self.trades.size))
        self._settled = self.book is not None
