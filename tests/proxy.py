"""
A TCP proxy with faults, between a client and a server that know nothing of it.

``async with`` runs it in the current event loop, ``with`` in a thread of its own, for tests whose
client is another process. All controls can be called from any thread; when they return the fault
is in force. Faults stay until `heal`, except `cut` and `corrupt`, which happen once.

::

    client ──► proxy ──► upstream      "up"
    client ◄── proxy ◄── upstream      "down"
"""

import asyncio
import contextlib
import functools
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal, Self

Direction = Literal["up", "down"]

_CHUNK = 64 * 1024
_DELAYED_BYTES = 8 << 20
"""What may be on its way while there is a delay; otherwise one chunk."""
_RESET = struct.pack("ii", 1, 0)


class Faults:
    """What is wrong with the proxy at present; shared by its connections."""

    def __init__(self) -> None:
        self.flows = {"up": asyncio.Event(), "down": asyncio.Event()}
        self.heal()

    def heal(self) -> None:
        for flow in self.flows.values():
            flow.set()
        self.closes = False
        self.swallows = False
        self.bytes_per_s = 0.0
        self.delay_s = 0.0
        self.corrupts: Direction | None = None


class Pipe:
    """One direction of one connection: reads ahead one chunk, or as much as the delay takes."""

    def __init__(
        self, faults: Faults, direction: Direction, source: socket.socket, sink: socket.socket
    ) -> None:
        self._faults = faults
        self._direction = direction
        self._source = source
        self._sink = sink
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._changed = asyncio.Event()
        self.swallowed = False
        """Bytes were lost: what follows would make no sense to the receiver."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._write())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        flow = self._faults.flows[self._direction]
        data = b"-"
        while data:
            await flow.wait()
            while sum(len(chunk) for _, chunk in self._waiting) >= self._room():
                await self._next_change()
            data = await loop.sock_recv(self._source, _CHUNK)
            if self._faults.swallows:
                self.swallowed = True
                if not data:
                    # The close is swallowed too: this side hears nothing more.
                    await asyncio.Event().wait()
                continue
            self._waiting.append((loop.time() + self._faults.delay_s, self._corrupted(data)))
            self._changed.set()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                await self._next_change()
            due, data = self._waiting[0]
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                await self._faults.flows[self._direction].wait()
                self._sink.shutdown(socket.SHUT_WR)
                return
            await self._send(data)
            self._waiting.popleft()
            self._changed.set()

    async def _send(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        while data:
            await self._faults.flows[self._direction].wait()
            rate = self._faults.bytes_per_s
            size = max(1, int(rate / 20)) if rate else len(data)
            piece, data = data[:size], data[size:]
            if self._faults.swallows:
                self.swallowed = True
                continue
            await loop.sock_sendall(self._sink, piece)
            if rate:
                await asyncio.sleep(len(piece) / rate)

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _room(self) -> int:
        return _DELAYED_BYTES if self._faults.delay_s else _CHUNK

    def _corrupted(self, data: bytes) -> bytes:
        if self._faults.corrupts != self._direction or not data:
            return data
        self._faults.corrupts = None
        middle = len(data) // 2
        return data[:middle] + bytes((data[middle] ^ 0xFF,)) + data[middle + 1 :]


class Connection:
    """One client and its upstream."""

    def __init__(self, faults: Faults, client: socket.socket, upstream: tuple[str, int]) -> None:
        self._faults = faults
        self._client = client
        self._address = upstream
        self._sockets = [client]
        self._pipes: list[Pipe] = []
        self.task: asyncio.Task[None] | None = None

    @property
    def is_spoilt(self) -> bool:
        """Whether bytes of it were swallowed, or it never had an upstream."""
        return not self._pipes or any(pipe.swallowed for pipe in self._pipes)

    async def run(self) -> None:
        """Forward until both sides have ended; an error of one side resets the other."""
        loop = asyncio.get_running_loop()
        try:
            if self._faults.swallows:
                await self._swallow()
            upstream = socket.socket()
            upstream.setblocking(False)
            self._sockets.append(upstream)
            await loop.sock_connect(upstream, self._address)
            self._pipes = [
                Pipe(self._faults, "up", self._client, upstream),
                Pipe(self._faults, "down", upstream, self._client),
            ]
            async with asyncio.TaskGroup() as tasks:
                for pipe in self._pipes:
                    tasks.create_task(pipe.run())
        except* OSError:
            self.reset()
        finally:
            for each in self._sockets:
                each.close()

    async def _swallow(self) -> None:
        while await asyncio.get_running_loop().sock_recv(self._client, _CHUNK):
            pass
        await asyncio.Event().wait()

    def reset(self) -> None:
        """Make the close that follows an RST."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


class FaultProxy:
    """One listening port in front of one upstream."""

    def __init__(
        self, upstream_host: str, upstream_port: int, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._upstream = (upstream_host, upstream_port)
        self._host = host
        self.port = port
        self.accepted: list[float] = []
        """When connections were accepted and forwarded, monotonic."""
        self.refused: list[float] = []
        """When connections were accepted and closed at once. What `refuse` keeps away is not
        seen here: the kernel answers it."""
        self._loop: asyncio.AbstractEventLoop
        self._faults: Faults
        self._listening: socket.socket | None = None
        self._kept: socket.socket | None = None
        """Keeps the port while `refuse` does not listen: nobody who asks for any port is given it."""
        self._listener: asyncio.Task[None] | None = None
        self._connections: set[Connection] = set()
        self._thread: threading.Thread | None = None

    # -- controls ----------------------------------------------------------------------

    def cut(self) -> None:
        """Reset all connections, once; new ones are welcome."""
        self._apply(self._cut)

    def refuse(self) -> None:
        """Do not listen; what is connected stays."""
        self._apply(self._stop_listening)

    def accept_then_close(self) -> None:
        """Close new connections as soon as they are accepted."""
        self._set(closes=True)

    def freeze(self, direction: Literal["up", "down", "both"] = "both") -> None:
        """Stop to read and to write: the sender's buffers fill up."""

        def stop() -> None:
            for name in ("up", "down") if direction == "both" else (direction,):
                self._faults.flows[name].clear()

        self._apply(stop)

    def half_open(self) -> None:
        """Swallow everything, closes too, and keep the sockets open."""
        self._set(swallows=True)

    def throttle(self, bytes_per_s: float) -> None:
        """Forward no faster, in each direction of each connection."""
        self._set(bytes_per_s=bytes_per_s)

    def delay(self, seconds: float) -> None:
        """Forward everything so much later."""
        self._set(delay_s=seconds)

    def corrupt(self, direction: Direction = "down") -> None:
        """Invert one byte of what comes next, once."""
        self._set(corrupts=direction)

    def heal(self) -> None:
        """End all faults; connections of which bytes were swallowed are reset."""
        self._apply(self._heal)

    # -- life --------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._faults = Faults()
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop_listening()
        if self._kept is not None:
            self._kept.close()
            self._kept = None
        tasks = self._cut()
        if self._listener is not None:
            tasks.append(self._listener)
        await asyncio.gather(*tasks, return_exceptions=True)

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(90)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._thread is not None
        self._apply(self._stop.set)
        self._thread.join(90)

    def _serve(self, ready: threading.Event) -> None:
        async def serve() -> None:
            self._stop = asyncio.Event()
            async with self:
                ready.set()
                await self._stop.wait()

        asyncio.run(serve())

    def _apply(self, change: Callable[[], object]) -> None:
        """Do it in the loop's thread, and wait until it is done."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            change()
            return

        async def run() -> None:
            change()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(60)

    def _set(self, **faults: object) -> None:
        def change() -> None:
            for name, value in faults.items():
                setattr(self._faults, name, value)

        self._apply(change)

    # -- in the loop -------------------------------------------------------------------

    def _listen(self) -> None:
        if self._kept is None:
            self._kept = socket.socket()
            self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._kept.bind((self._host, self.port))
            self.port = self._kept.getsockname()[1]
        self._listening = socket.create_server((self._host, self.port), backlog=256)
        self._listening.setblocking(False)
        self._listener = self._loop.create_task(self._accept(self._listening))

    def _stop_listening(self) -> None:
        if self._listener is not None and self._listening is not None:
            self._listener.cancel()
            self._listening.close()
            self._listening = None

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            client, _ = await self._loop.sock_accept(listening)
            client.setblocking(False)
            if self._faults.closes:
                self.refused.append(time.monotonic())
                client.close()
                continue
            self.accepted.append(time.monotonic())
            connection = Connection(self._faults, client, self._upstream)
            connection.task = self._loop.create_task(connection.run())
            self._connections.add(connection)
            connection.task.add_done_callback(functools.partial(self._forget, connection))

    def _forget(self, connection: Connection, _: "asyncio.Task[None]") -> None:
        self._connections.discard(connection)

    def _cut(self, *, only_spoilt: bool = False) -> list[asyncio.Task[None]]:
        tasks = []
        for connection in self._connections:
            if connection.task is not None and (connection.is_spoilt or not only_spoilt):
                connection.reset()
                connection.task.cancel()
                tasks.append(connection.task)
        return tasks

    def _heal(self) -> None:
        if self._faults.swallows:
            self._cut(only_spoilt=True)
        self._faults.heal()
        if self._listening is None:
            self._listen()
