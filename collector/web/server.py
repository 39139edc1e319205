"""The routes: the page and its files, the history, and the live connection."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from collector.access.tokens import Tokens
from collector.settings.addresses import endpoints_of
from collector.web import login
from collector.web.cell_requests import CellRequests
from collector.web.client import Client
from collector.web.host_check import HostCheck
from collector.web.market_watch import Watching
from collector.web.polling import Polling
from collector.web.view_model import ViewModel

STATIC: Final = Path(__file__).parent / "static"
CLIENTS: Final = 100
_TRY_AGAIN_LATER: Final = 1013
_POLICY_VIOLATION: Final = 1008
_WATCH_S: Final = 0.5
_ANSWER_S: Final = 2.0
_SPANS: Final = {"10m": 600, "1h": 3_600, "1d": 86_400, "1w": 604_800}
_BY_SECOND_S: Final = 3_600


class Page:
    """Everything behind the page: the board, the clients, and the poll that keeps it current."""

    def __init__(
        self, connect: str, tasks: asyncio.TaskGroup, tokens: Tokens | None = None
    ) -> None:
        self.tokens = tokens
        """Who may look; None: all who come."""
        self.board = ViewModel()
        self._requests = CellRequests(endpoints_of(connect))
        self.watching = Watching(connect, self._requests, tasks)
        self._clients: dict[int, Client] = {}
        self._numbers = itertools.count(1)
        self._looked_at = asyncio.Event()
        self._polling = Polling(self._requests, self.board, self.watching, self._tell)
        self._poll = tasks.create_task(self._polling.run(self._looked_at))

    def close(self) -> None:
        """Stop polling and following, and close the sockets."""
        self._poll.cancel()
        self.watching.close()
        self._requests.close()

    def _tell(self) -> None:
        for client in self._clients.values():
            client.tell()

    async def live(self, websocket: WebSocket) -> None:
        """Serve one browser's live connection."""
        await websocket.accept()
        if len(self._clients) >= CLIENTS:
            await websocket.close(_TRY_AGAIN_LATER, f"{CLIENTS} pages are open already")
            return
        number = next(self._numbers)
        client = self._clients[number] = Client(number, websocket, self.board, self.watching)
        self._looked_at.set()
        watched = asyncio.create_task(self._watch(websocket))
        try:
            await client.run()
        except* WebSocketDisconnect:
            pass
        finally:
            watched.cancel()
            del self._clients[number]
            if not self._clients:
                self._looked_at.clear()

    async def _watch(self, websocket: WebSocket) -> None:
        """Close a live connection once its key is revoked."""
        while self.tokens is not None:
            await asyncio.sleep(_WATCH_S)
            if self.tokens.of_scope(websocket.scope) is None:
                await websocket.close(_POLICY_VIOLATION, "this key was revoked")
                return

    async def history(self, request: Request) -> Response:
        """Return the time series over a span of time."""
        span_s = _SPANS.get(request.query_params.get("span", "10m"))
        if span_s is None:
            return _json({"error": f"span must be one of {', '.join(_SPANS)}"}, 400)
        since = int(time.time()) - span_s
        if span_s <= _BY_SECOND_S:
            # For the first client the board is empty, or as the last one left it. It is shown
            # in any case; the banner tells if the collector is away.
            with contextlib.suppress(TimeoutError, ValueError):
                await self._polling.past()
            return _json({"grain_s": 1, "points": self.board.history(since)})
        try:
            found = await self._requests.ask(
                "history", within_s=_ANSWER_S, grain="minute", since=since
            )
        except (TimeoutError, ValueError) as error:
            return _json({"error": str(error) or "the collector does not answer"}, 503)
        return _json({"grain_s": found["grain_s"], "points": found["points"]})


async def _index(request: Request) -> Response:
    return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})


def _json(found: object, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(found), status, {"cache-control": "no-store"}, "application/json"
    )


class _Files(StaticFiles):
    """The page's files; browsers revalidate them, so that upgrades take effect."""

    def file_response(self, *args: object, **options: object) -> Response:
        response = super().file_response(*args, **options)  # type: ignore[arg-type]
        response.headers.setdefault("cache-control", "no-cache")
        return response


def application(page: Page, names: Iterable[str]) -> Starlette:
    """Build the ASGI application."""
    door = [] if page.tokens is None else [Middleware(login.LoginCheck, tokens=page.tokens)]
    return Starlette(
        routes=[
            *([] if page.tokens is None else login.routes(page.tokens)),
            Route("/", _index),
            Route("/history", page.history),
            WebSocketRoute("/live", page.live),
            Mount("/static", _Files(directory=STATIC)),
        ],
        middleware=[
            Middleware(HostCheck, names=frozenset(name.lower() for name in names)),
            *door,
            Middleware(GZipMiddleware, minimum_size=2_000, compresslevel=4),
        ],
    )
