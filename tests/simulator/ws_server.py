"""
``/injstream-ws`` over real sockets: every connection gets each block as one burst.

A connection whose reader falls behind has its blocks queued, `buffer` of them. When that
is full its subscriptions are evicted, in silence, as the node does: what was queued still
arrives, then nothing, on a connection that stays open.
"""

import asyncio
from collections import deque
from typing import Any, Final

from picows import (
    WSAutoPingStrategy,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from tests.simulator import faults, ws_requests
from tests.simulator.exchange import Exchange, SimBlock
from tests.simulator.filters import Filter
from tests.simulator.markets import SimMarket
from tests.simulator.mischief import Hearer, Mischief, Said
from tests.simulator.ws_json import LevelsJson, WsBlock

_HIGH: Final = 4 << 20
"""Bytes in a connection's buffer beyond which its blocks queue up."""

PATH: Final = b"/injstream-ws"


def text_frame(payload: bytes) -> bytes:
    """Put a payload into an unmasked WebSocket frame, as servers send."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


class Subscription(Hearer):
    """One subscription of one connection."""

    def __init__(
        self, request_id: bytes, filter_: Filter, since: int, market: SimMarket | None
    ) -> None:
        super().__init__("ws", filter_.markets, since)
        self.market = market
        """The only market it receives, if there is only one."""
        self.request_id = request_id
        self.filter = filter_
        self.prefix = b'{"jsonrpc":"2.0","id":%b,"result":' % request_id


class Connection(WSListener):
    """One client."""

    def __init__(self, server: "WsServer") -> None:
        self._server = server
        self.subscriptions: dict[str, Subscription] = {}
        self._backlog: deque[bytes] = deque()
        self.writable = asyncio.Event()
        self.writable.set()
        self.transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Take the connection up."""
        self.transport = transport
        transport.underlying_transport.set_write_buffer_limits(high=_HIGH)
        self._server.connections.add(self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Forget the connection with its subscriptions."""
        self._server.connections.discard(self)
        self.writable.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer a request."""
        if frame.msg_type is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type is WSMsgType.TEXT:
            self._receive(frame.get_payload_as_bytes())

    def _receive(self, payload: bytes) -> None:
        mischief = self._server.mischief
        if mischief.find(faults.Deaf, "ws"):
            return
        asked = ws_requests.receive(payload, self.subscriptions)
        answer = asked.answer
        if asked.unsubscribe:
            del self.subscriptions[asked.unsubscribe]
        elif asked.subscribe:
            name, request_id, filter_ = asked.subscribe
            server = self._server
            market = filter_.only_market(server.markets)
            subscription = Subscription(request_id, filter_, server.height + 1, market)
            limit = mischief.find(faults.StreamLimit, "ws")
            if limit and len(self.subscriptions) >= limit.limit:
                subscription.is_dead = True
                if not limit.silent:
                    reason = f"max_subscriptions_per_client {limit.limit} reached"
                    answer = ws_requests.internal(int(request_id), reason)
            if answer is asked.answer:
                self.subscriptions[name] = subscription
                self._server.subscribed.set()
        if answer:
            self._write(text_frame(answer))

    def publish(self, block: WsBlock) -> int:
        """Send a block to every subscription, in one burst; return how many messages."""
        server = self._server
        if server.mischief.deliveries:
            frames = [
                text_frame(message)
                for subscription in self.subscriptions.values()
                for message in server.messages(block.block, subscription)
            ]
        else:
            frames = [
                text_frame(block.message(s.prefix, s.filter, s.market))
                for s in self.subscriptions.values()
                if not s.is_dead
            ]
        return len(frames) if self.send(b"".join(frames)) else 0

    def send(self, burst: bytes) -> bool:
        """Send what a block is to this connection; without room for it evict, and say False."""
        if len(self._backlog) >= self._server.buffer:
            self._evict()
            return False
        if burst:
            self._write(burst)
        return True

    def _evict(self) -> None:
        for subscription in self.subscriptions.values():
            self._server.evicted += not subscription.is_dead
            subscription.is_dead = True

    def _write(self, burst: bytes) -> None:
        if self.writable.is_set() and not self._backlog:
            self.transport.underlying_transport.write(burst)
        else:
            self._backlog.append(burst)

    def pause_writing(self) -> None:
        """The reader falls behind."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """The reader has caught up with what was in the socket's buffer."""
        self.writable.set()
        while self._backlog and self.writable.is_set():
            self.transport.underlying_transport.write(self._backlog.popleft())


class WsServer:
    """The WebSocket server of one exchange."""

    protocol: Final = "ws"

    def __init__(self, exchange: Exchange, mischief: Mischief, *, buffer: int = 100) -> None:
        self.mischief = mischief
        self.buffer = buffer
        self.connections: set[Connection] = set()
        self.subscribed = asyncio.Event()
        self.evicted = 0
        self.messages_sent = 0
        self.markets = exchange.by_id
        self._exchange = exchange
        self._levels = LevelsJson()
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"ws://127.0.0.1:{self._port}{PATH.decode()}"

    @property
    def height(self) -> int:
        """The newest block."""
        return self._exchange.height

    async def start(self) -> None:
        """Listen, on the port it had before if it had one."""
        self._server = await ws_create_server(
            self._accept,
            "127.0.0.1",
            self._port,
            logger_name="simulator",
            # As CometBFT does; a client that does not answer is cut.
            enable_auto_ping=True,
            auto_ping_strategy=WSAutoPingStrategy.PING_PERIODICALLY,
            auto_ping_idle_timeout=27,
            auto_ping_reply_timeout=3,
        )
        self._port = self._server.sockets[0].getsockname()[1]

    def _accept(self, request: WSUpgradeRequest) -> Any:
        status = self.mischief.refuse("ws")
        if status:
            response = WSUpgradeResponse.create_error_response(
                status, b"refused", self.mischief.retry_later("ws")
            )
            return WSUpgradeResponseWithListener(response, None)
        return Connection(self) if request.path == PATH else None

    async def stop(self) -> None:
        """Close the port and cut every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.cut()

    def cut(self) -> None:
        """Cut every connection without a closing handshake."""
        for connection in list(self.connections):
            connection.transport.disconnect(graceful=False)
        self.connections.clear()

    def publish(self, block: SimBlock) -> None:
        """Send a block to everyone."""
        made = WsBlock(self.markets, block, self._levels)
        for connection in list(self.connections):
            self.messages_sent += connection.publish(made)

    async def drained(self) -> None:
        """Wait until every connection takes more."""
        for connection in list(self.connections):
            await connection.writable.wait()

    @property
    def subscriptions(self) -> int:
        """How many subscriptions there are, on all connections."""
        return sum(len(connection.subscriptions) for connection in self.connections)

    def messages(self, block: SimBlock, subscription: Subscription) -> list[bytes]:
        """Make what a subscription hears while there is mischief."""
        return [
            self._message(said, subscription) for said in self.mischief.say(block, subscription)
        ]

    def _message(self, said: Said, subscription: Subscription) -> bytes:
        made = WsBlock(self.markets, said.block, self._levels)
        whole = made.message(subscription.prefix, subscription.filter, subscription.market)
        match said.instead:
            case faults.Garbage(what=what):
                return _garbage(whole, what)
            case faults.Oversized(size=size):
                return whole[:-1] + b" " * (size - len(whole)) + b"}"
            case faults.BlockError():
                reason = "failed to marshal response"
                return ws_requests.internal(int(subscription.request_id), reason)
            case faults.StreamError():
                return ws_requests.error(int(subscription.request_id), 1, "stream error")
            case _:
                return whole


def _garbage(whole: bytes, what: str) -> bytes:
    if what == "truncated":
        return whole[: len(whole) // 2]
    if what == "binary":
        return whole[:40] + b"\xff\xfe\xff" + whole[40:]
    if what == "types":
        return whole.replace(b'"block_height":"', b'"block_height":"x')
    return b"<html>502 Bad Gateway</html>"
