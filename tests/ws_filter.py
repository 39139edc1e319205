"""
A WebSocket man in the middle, which can take single subscriptions' messages away.

``with`` runs it in a thread of its own. `swallow` can be called from any thread; when it returns
nothing more with this JSON-RPC id reaches the client, while the socket stays open and all other
messages pass.

::

    collector ◄──── what is not swallowed ──── filter ◄──── node
"""

import asyncio
import threading
from typing import Any, Final, Self

import msgspec
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_connect,
    ws_create_server,
)

_MAX_FRAME: Final = 64 << 20


class _Answer(msgspec.Struct):
    id: int = 0


class Asked(msgspec.Struct):
    """One JSON-RPC request of the client."""

    id: int
    method: str
    params: dict[str, Any]

    def concerns(self, market_id: str) -> bool:
        """Say whether it subscribes to this market."""
        filters = self.params["req"].get("filter", {})
        return any(market_id in wanted["market_ids"] for wanted in filters.values())


_answer: Final = msgspec.json.Decoder(_Answer)
_asked: Final = msgspec.json.Decoder(Asked)


class WsFilter:
    """One listening port in front of one WebSocket URL."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.url = ""
        self.asked: list[Asked] = []
        """Everything that clients asked for, oldest first."""
        self.connects = 0
        self.swallowed = 0
        """Messages that were taken away."""
        self._swallows: frozenset[int] = frozenset()
        self._clients: set[WSTransport] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event

    def swallow(self, subscription: int) -> None:
        """Let nothing with this id through any more."""
        self._swallows |= {subscription}

    def subscription_of(self, market_id: str) -> int:
        """Return the id under which a market was last subscribed."""
        return next(a.id for a in reversed(self.asked) if a.concerns(market_id))

    # -- life --------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(90)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(90)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await ws_create_server(self._accept, "127.0.0.1", 0, max_frame_size=_MAX_FRAME)
        self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/injstream-ws"
        self._ready.set()
        async with server:
            await self._stop.wait()
            for client in list(self._clients):
                client.disconnect()

    def _accept(self, request: WSUpgradeRequest) -> WSListener:
        self.connects += 1
        return _Client(self)

    # -- in the loop -------------------------------------------------------------------

    def opened(self, client: WSTransport) -> None:
        """Note a connection, to be closed at the end."""
        self._clients.add(client)

    def passes(self, payload: bytes) -> bool:
        """Say whether a message of the node may go on to the client."""
        if _answer.decode(payload).id not in self._swallows:
            return True
        self.swallowed += 1
        return False


class _Side(WSListener):
    """One end of a connection: joins fragments, hands whole messages on."""

    def __init__(self) -> None:
        self.other: WSTransport | None = None
        self._fragments: list[bytes] = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()
            return
        self._fragments.append(frame.get_payload_as_bytes())
        if frame.fin:
            payload = b"".join(self._fragments)
            self._fragments.clear()
            self.deliver(payload)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self.other is not None:
            self.other.disconnect()

    def deliver(self, payload: bytes) -> None:
        raise NotImplementedError


class _Client(_Side):
    """The collector's end; what it asks before the node is connected waits."""

    def __init__(self, owner: WsFilter) -> None:
        super().__init__()
        self._owner = owner
        self._waiting: list[bytes] = []
        self._connecting: asyncio.Task[None] | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._owner.opened(transport)
        self._connecting = asyncio.get_running_loop().create_task(self._connect(transport))

    async def _connect(self, transport: WSTransport) -> None:
        def node() -> _Node:
            return _Node(self._owner, transport)

        try:
            self.other, _ = await ws_connect(node, self._owner.upstream, max_frame_size=_MAX_FRAME)
        except OSError:
            transport.disconnect()
            return
        for payload in self._waiting:
            self.other.send(WSMsgType.TEXT, payload)

    def deliver(self, payload: bytes) -> None:
        self._owner.asked.append(_asked.decode(payload))
        if self.other is None:
            self._waiting.append(payload)
        else:
            self.other.send(WSMsgType.TEXT, payload)


class _Node(_Side):
    """The node's end."""

    def __init__(self, owner: WsFilter, client: WSTransport) -> None:
        super().__init__()
        self.other = client
        self._owner = owner

    def deliver(self, payload: bytes) -> None:
        if self.other is not None and self._owner.passes(payload):
            self.other.send(WSMsgType.TEXT, payload)
