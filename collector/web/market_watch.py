"""Follow the markets whose pages are open: one subscriber per market while any client views it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from collector.client.market_status import MarketStatus
from collector.client.received import ChainReplaced, Joined, Lost, Received, Unanswered
from collector.client.subscriber import Subscriber
from collector.web.book_view import BookView
from collector.web.cell_requests import CellRequests
from shards.protocol.events import Book, Trades
from shards.protocol.frames import decode_event, is_readable, topic

log = logging.getLogger(__name__)

MOST: Final = 32
"""Most markets followed at once, over all clients."""
_ANSWER_S: Final = 2.0


class Watch:
    """One followed market."""

    def __init__(self, view: BookView) -> None:
        self.view = view
        self.tell: dict[int, Callable[[], None]] = {}
        """Callbacks for changes, by client."""
        self.task: asyncio.Task[None]


class Watching:
    """All followed markets."""

    def __init__(self, connect: str, requests: CellRequests, tasks: asyncio.TaskGroup) -> None:
        self._connect = connect
        self._requests = requests
        self._tasks = tasks
        self._watches: dict[str, Watch] = {}

    def enter(self, symbol: str, client: int, tell: Callable[[], None]) -> BookView:
        """Follow a market for a client, who is notified of each change until he leaves."""
        watch = self._watches.get(symbol)
        if watch is None:
            view = BookView(symbol)
            if len(self._watches) >= MOST:
                view.trouble(f"{MOST} other markets are open already; close one of those pages")
                return view
            watch = self._watches[symbol] = Watch(view)
            watch.task = self._tasks.create_task(self._follow(watch))
        watch.tell[client] = tell
        return watch.view

    def symbols(self) -> list[str]:
        """Return the symbols of the followed markets."""
        return list(self._watches)

    def rows(self, rows: Iterable[MarketStatus]) -> None:
        """Take the aggregator's rows of these markets."""
        for row in rows:
            if watch := self._watches.get(row.symbol):
                watch.view.row(row)

    def leave(self, symbol: str, client: int) -> None:
        """Remove a client; the last one ends the following."""
        watch = self._watches.get(symbol)
        if watch is None:
            return
        watch.tell.pop(client, None)
        if not watch.tell:
            del self._watches[symbol]
            watch.task.cancel()

    def close(self) -> None:
        """Stop following everything."""
        for watch in self._watches.values():
            watch.task.cancel()
        self._watches.clear()

    async def _follow(self, watch: Watch) -> None:
        view = watch.view
        try:
            with Subscriber(
                self._connect,
                markets=[view.symbol],
                channels=["book", "trades"],
                keep_books=True,
                hwm=5_000,
            ) as subscriber:
                async for received in subscriber:
                    await self._take(view, subscriber, received)
                    for tell in watch.tell.values():
                        tell()
        except ValueError as error:
            # A publisher of another version: the page says so instead of showing nonsense.
            view.trouble(str(error))

    async def _take(self, view: BookView, subscriber: Subscriber, received: Received) -> None:
        match received.event:
            case Book() as event:
                view.book(subscriber.book(view.symbol), event)
            case Trades() as event:
                view.trades(event)
            case Lost():
                if received.channel == "book":
                    view.book(None)
            case Joined() as event:
                view.trouble("")
                await self._earlier(view, event)
            case ChainReplaced():
                view.book(None)
            case Unanswered():
                view.trouble("the collector does not answer")
            case _:
                pass

    async def _earlier(self, view: BookView, joined: Joined) -> None:
        """Add the aggregator's recent trades, because a subscriber begins with new ones."""
        name = topic("trades", view.symbol)
        wanted: dict[str, Any] = {
            "topic": name, "publisher_epoch": joined.publisher_epoch, "after": 0,
        }  # fmt: skip
        with contextlib.suppress(TimeoutError, ValueError):
            _, bodies = await self._requests.ask_parts("replay", within_s=_ANSWER_S, **wanted)
            for body in bodies:
                event = decode_event(body) if is_readable(body) else None
                if isinstance(event, Trades):
                    view.trades(event)
