"""
One browser's connection.

The browser receives what changed since the last message that it has acknowledged, at most five
times a second. Whatever its speed, at most one message is in flight, built at the last moment:
nothing is queued, and a slow client gets fewer and newer messages. A hidden tab acknowledges
less often.

::

    page → server   {"seen": 12}                 message 12 is displayed completely: more, please
                    {"open": "INJ-USDT"}         a market's page is open (or null: none)
    server → page   {"n": 13, "now": unix_ms, "status": …, "cells": …, "market": {…}, …}
"""

import asyncio
import time
from typing import Any, Final

import msgspec
from starlette.websockets import WebSocket

from collector.web.book_view import BookView
from collector.web.market_watch import Watching
from collector.web.view_model import ViewModel
from shards.protocol.errors import UNREADABLE

TURN_S: Final = 0.2
"""The shortest time between two messages to one client."""
_TEXT_LIMIT: Final = 500
_POLICY_VIOLATION: Final = 1008

_encode: Final = msgspec.json.Encoder().encode


class ClientMessage(msgspec.Struct, forbid_unknown_fields=True):
    """A message from a page."""

    seen: int | None = None
    open: str | msgspec.UnsetType | None = msgspec.UNSET


_decode: Final = msgspec.json.Decoder(ClientMessage).decode


class Client:
    """The state of one browser: what was sent to it, and what it has acknowledged."""

    def __init__(
        self, number: int, websocket: WebSocket, board: ViewModel, watching: Watching
    ) -> None:
        self._number = number
        self._websocket = websocket
        self._board = board
        self._watching = watching
        self._due = asyncio.Event()
        self._sent = 0
        self._seen = 0
        self._board_seen = 0
        self._view: BookView | None = None
        self._view_seen = 0

    def tell(self) -> None:
        """Note that something may be new."""
        self._due.set()

    async def run(self) -> None:
        """Serve until the browser disconnects."""
        self.tell()
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(self._send())
                async for text in self._websocket.iter_text():
                    if not self._hear(text):
                        await self._websocket.close(_POLICY_VIOLATION)
                        break
                sending.cancel()
        finally:
            self._open(None)

    def _hear(self, text: str) -> bool:
        """Take a message from the page; return False if it is invalid."""
        try:
            said = _decode(text[:_TEXT_LIMIT])
        except UNREADABLE:
            return False
        if said.seen is not None:
            self._seen = said.seen
        if said.open is not msgspec.UNSET:
            self._open(said.open)
        self.tell()
        return True

    def _open(self, symbol: str | None) -> None:
        if self._view is not None:
            self._watching.leave(self._view.symbol, self._number)
        self._view, self._view_seen = None, 0
        if symbol is not None and symbol in self._board:
            self._view = self._watching.enter(symbol, self._number, self.tell)

    async def _send(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            if self._seen != self._sent:
                # The previous message is not acknowledged yet; the acknowledgement will wake us.
                continue
            if message := self.changes():
                self._sent += 1
                message["n"] = self._sent
                message["now"] = time.time_ns() // 1_000_000
                await self._websocket.send_text(_encode(message).decode())
                await asyncio.sleep(TURN_S)

    def changes(self) -> dict[str, Any]:
        """Return what is new for this client, and mark it as sent."""
        found = self._board.changes(self._board_seen)
        self._board_seen = self._board.version
        if self._view is not None:
            market = self._view.changes(self._view_seen)
            self._view_seen = self._view.version
            if market:
                found["market"] = market
        return found
