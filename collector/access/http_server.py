"""
uvicorn with bounds on its connections, for the HTTP server and the page.

uvicorn waits without a limit for a handshake, for a request, and for a client that does not read.
So anyone who reaches the port could take all descriptors of the process, without a token, and
health checks would fail. Here at most `HttpBounds.most` connections are open. If there are more, the one that
has waited longest without a request is closed: a client that sends its request is served.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Coroutine, Iterator
from socket import socket
from typing import Any, Final

import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from collector.access.descriptors import inode_of, is_clear, shut
from shards.runtime import descriptors

log = logging.getLogger(__name__)

_SPARE: Final = 64
"""Descriptors reserved for the rest of the process."""
_QUIET_S: Final = 60.0
"""Between two warnings that all connections are in use."""
_PAUSE_S: Final = 0.5
"""After an error of the system, for example without descriptors."""
_SPARE_S: Final = 5.0
_TICKS: Final = 10
"""Ticks of uvicorn in a second."""


class HttpBounds(msgspec.Struct, frozen=True):
    """Bounds on the connections of one server."""

    most: int = 256
    request_s: float = 10.0
    """For the TLS handshake and a request's head, or until the next request."""
    answer_s: float = 60.0
    """For a request's body, and until the answer has been read."""


class Connection:
    """One connection, from its acceptance on."""

    def __init__(self, descriptor: int, bounds: HttpBounds, now: float) -> None:
        self._descriptor = descriptor
        self._inode = inode_of(descriptor)
        self._bounds = bounds
        self._http: H11Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._looked: tuple[object, bool] = None, False
        """uvicorn's state of the newest request, and whether it was answered, when last looked at."""
        self._since = now
        """When it came, or when its newest request or answer was first seen."""

    def shook_hands(self, http: H11Protocol) -> None:
        """Note uvicorn's protocol, once it has a transport."""
        self._transport, self._http = http.transport, http

    def is_gone(self) -> bool:
        """Return whether it has ended: one that is closing may still have an answer to deliver."""
        return inode_of(self._descriptor) != self._inode

    def is_live(self) -> bool:
        """Return whether it is an open WebSocket: those have bounds of their own."""
        if self._transport is None or self._transport.is_closing():
            return False
        return self._transport.get_protocol() is not self._http

    def is_busy(self) -> bool:
        """Return whether a request is being answered, or its answer has not been read."""
        cycle, is_answered = self._newest()
        return cycle is not None and not (is_answered and is_clear([self._descriptor]))

    def age(self) -> float:
        """Return a number that is lower the longer it waits."""
        return self._since

    def overdue(self, now: float) -> str:
        """Return which bound it has exceeded; empty if none."""
        if (newest := self._newest()) != self._looked:
            self._looked, self._since = newest, now
        if self.is_live():
            return ""
        waited_s = now - self._since
        if self.is_busy():
            return "slow" if waited_s > self._bounds.answer_s else ""
        return "unfinished" if waited_s > self._bounds.request_s else ""

    def end(self) -> None:
        """Cut it."""
        if self._transport is not None:
            self._transport.abort()
        shut(self._descriptor, self._inode)

    def _newest(self) -> tuple[Any, bool]:
        """Return uvicorn's state of the newest request, None before it, and whether it is answered."""
        cycle = None if self._http is None else self._http.cycle
        return cycle, cycle is not None and cycle.response_complete


class BoundedServer(uvicorn.Server):
    """uvicorn with bounds on its connections, and without its signal handlers."""

    def __init__(
        self,
        config: uvicorn.Config,
        closed: Counter[str] | None = None,
        bounds: HttpBounds = HttpBounds(),  # noqa: B008 - it does not change
    ) -> None:
        """
        Args:
            closed: Counts the connections closed at a bound, by reason.

        """
        super().__init__(config)
        self._closed = Counter[str]() if closed is None else closed
        self.bounds = bounds
        self._most = max(16, min(bounds.most, (descriptors.limit() - _SPARE) // 2))
        self._open: dict[Connection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._quiet_until = 0.0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to our own process."""
        yield

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen. We accept the connections, so that those in their handshake are bounded too."""
        await self.lifespan.startup()
        self.servers = []
        loop = asyncio.get_running_loop()
        for listener in sockets or ():
            listener.setblocking(False)
            self._start(self._accept(loop, listener))
        self.started = True

    async def _accept(self, loop: asyncio.AbstractEventLoop, listener: socket) -> None:
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("cannot accept an HTTP connection: %s", error.strerror)
                await asyncio.sleep(_PAUSE_S)
                continue
            accepted.setblocking(False)
            new = Connection(accepted.fileno(), self.bounds, loop.time())
            self._came(new)
            self._start(self._shake_hands(loop, accepted, new))

    async def _shake_hands(
        self, loop: asyncio.AbstractEventLoop, accepted: socket, new: Connection
    ) -> None:
        context = self.config.ssl
        # `overdue` is sooner than this time-out, and is counted.
        within_s = None if context is None else self.bounds.request_s + _SPARE_S
        with contextlib.suppress(OSError):  # TLS and time-outs are OSErrors too
            http = self._new_protocol()
            await loop.connect_accepted_socket(
                lambda: http, accepted, ssl=context, ssl_handshake_timeout=within_s
            )
            new.shook_hands(http)
            return
        accepted.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _new_protocol(self) -> H11Protocol:
        """Make uvicorn's protocol for one connection."""
        return H11Protocol(self.config, self.server_state, self.lifespan.state)

    def _came(self, new: Connection) -> None:
        """Note a connection; close one if there are too many."""
        self._open[new] = None
        if len(self._open) <= self._most:
            return
        self._forget()
        if len(self._open) > self._most:
            others = [one for one in self._open if one is not new and not one.is_live()]
            self._close(min(others, key=_is_first_to_go, default=new), "connections")

    async def on_tick(self, counter: int) -> bool:
        """Once a second, close the connections that have waited for too long."""
        if counter % _TICKS == 0:
            self._forget()
            now = asyncio.get_running_loop().time()
            for one in list(self._open):
                if reason := one.overdue(now):
                    self._close(one, reason)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """End; connections that wait for nothing but a request are closed."""
        for task in self._tasks:
            task.cancel()
        self._forget()
        for one in self._open:
            if not one.is_busy() and not one.is_live():
                one.end()
        await super().shutdown(sockets)

    def _forget(self) -> None:
        self._open = {one: None for one in self._open if not one.is_gone()}

    def _close(self, one: Connection, reason: str) -> None:
        self._closed[reason] += 1
        now = asyncio.get_running_loop().time()
        if reason == "connections" and now >= self._quiet_until:
            self._quiet_until = now + _QUIET_S
            log.warning(
                "%d HTTP connections are open: the ones that wait longest make room", self._most
            )
        one.end()
        self._open.pop(one, None)


def _is_first_to_go(one: Connection) -> tuple[bool, float]:
    """Order connections: those without a request first, then by age."""
    return one.is_busy(), one.age()
