"""uvicorn with bounds: strangers hold no connection for long, and do not keep others out."""

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis  # noqa: F401 - before trio, else it warns at the end
import pytest
import trustme
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from collector.access.http_server import BoundedServer, HttpBounds
from tests.system.running import eventually

MOST = 20
BOUNDS = HttpBounds(most=MOST, request_s=2.0, answer_s=4.0)
LARGE = 32 << 20
"""More than the system's buffers hold."""


async def _short(request: Request) -> PlainTextResponse:
    return PlainTextResponse("fine")


async def _large(request: Request) -> PlainTextResponse:
    return PlainTextResponse("x" * LARGE)


async def _body(request: Request) -> PlainTextResponse:
    with contextlib.suppress(ClientDisconnect):
        await request.body()
    return PlainTextResponse("fine")


async def _live(websocket: WebSocket) -> None:
    await websocket.accept()
    with contextlib.suppress(Exception):
        async for text in websocket.iter_text():
            await websocket.send_text(text)


class Served:
    """A bounded server in a loop of its own, over TLS or without."""

    def __init__(self, folder: Path, *, is_tls: bool) -> None:
        self.closed: Counter[str] = Counter()
        self.context: ssl.SSLContext | None = None
        files = {}
        if is_tls:
            ca = trustme.CA()
            certificate = ca.issue_cert("127.0.0.1")
            certificate.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
            files = {"ssl_certfile": str(folder / "both.pem")}
            self.context = ssl.create_default_context()
            ca.configure_trust(self.context)
        routes = [Route("/", _short), Route("/large", _large), WebSocketRoute("/live", _live)]
        routes.append(Route("/body", _body, methods=["POST"]))
        config = uvicorn.Config(
            Starlette(routes=routes), lifespan="off", log_config=None, ws="websockets-sansio",
            timeout_graceful_shutdown=1, **files,  # type: ignore[arg-type]
        )  # fmt: skip
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.server = BoundedServer(config, self.closed, BOUNDS)

    def run(self) -> None:
        """Serve until it is asked to end."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.server.serve([self.listener]))

    def ask(self, path: str = "/") -> int:
        """Ask once; return the status."""
        client = (
            http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self.context)
            if self.context
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        )
        with contextlib.closing(client):
            client.request("GET", path)
            return client.getresponse().status

    def plain(self) -> socket.socket:
        """Connect, and no more."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def secured(self) -> socket.socket:
        """Connect, over TLS if that is asked for."""
        plain = self.plain()
        return (
            self.context.wrap_socket(plain, server_hostname="127.0.0.1") if self.context else plain
        )


def _answers(served: Served) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return served.ask() == 200
    return False


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, is_tls=request.param)
    thread = threading.Thread(target=served.run)
    thread.start()
    try:
        eventually(lambda: _answers(served), within_s=30)
        yield served
    finally:
        began = time.monotonic()
        served.server.should_exit = True
        thread.join(90)
        assert not thread.is_alive()
        assert time.monotonic() - began < 30


def is_cut(connection: socket.socket) -> bool:
    """Whether the server has closed it; what it still sent is thrown away."""
    connection.settimeout(0.01)
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_who_only_waits_is_closed(served: Served) -> None:
    """Half-open, an unfinished head, bytes that trickle, a next request that never ends."""
    first = [served.plain(), served.secured(), served.secured()]
    first[2].sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
    again = served.secured()
    again.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET / HTTP/1.1\r\nX: ")
    waiting = [*first, again]
    deadline = time.monotonic() + 30

    def all_cut() -> bool:
        for one in waiting[2:]:
            with contextlib.suppress(OSError):
                one.sendall(b"x")
        assert time.monotonic() < deadline
        return all(map(is_cut, waiting))

    with contextlib.ExitStack() as held:
        for one in waiting:
            held.enter_context(one)
        eventually(all_cut, within_s=30)
    eventually(lambda: served.closed["unfinished"] == 4, within_s=30, what=lambda: served.closed)


def test_who_does_not_read_or_does_not_send_its_body_is_closed(served: Served) -> None:
    with served.secured() as deaf, served.secured() as slow:
        deaf.sendall(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        slow.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        eventually(lambda: served.closed["slow"] == 2, within_s=30)
        eventually(lambda: is_cut(deaf), within_s=30)
    assert served.ask() == 200


def test_a_flood_keeps_nobody_out(served: Served) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(3 * MOST):
            held.enter_context(served.plain())
        assert served.ask() == 200
        eventually(
            lambda: served.closed["connections"] >= MOST, within_s=30, what=lambda: served.closed
        )


def test_a_websocket_stays(served: Served) -> None:
    scheme = "wss" if served.context else "ws"
    url = f"{scheme}://127.0.0.1:{served.port}/live"
    with contextlib.ExitStack() as held:
        live = held.enter_context(connect(url, ssl=served.context, proxy=None, open_timeout=60))
        for _ in range(2 * MOST):
            held.enter_context(served.plain())
        eventually(lambda: served.closed["unfinished"] > 0, within_s=30)
        live.send("still here")
        assert live.recv(30) == "still here"
