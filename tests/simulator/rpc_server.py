"""
CometBFT's RPC: ``block_results``, ``header`` and ``status``, over WebSocket and plain HTTP.

One port serves both, as the node's does: ``GET /status`` and ``ws://…/websocket``.
"""

import asyncio
import urllib.parse
from collections import Counter
from typing import Any, Final

import msgspec
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from tests.simulator import faults
from tests.simulator.exchange import Exchange
from tests.simulator.mischief import Mischief
from tests.simulator.rpc_calls import METHODS, RpcCalls


class _Client(WSListener):
    """One WebSocket client of the RPC."""

    def __init__(self, server: "RpcServer") -> None:
        self._server = server
        self._transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._server.clients.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._server.clients.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type is WSMsgType.TEXT:
            answer = self._server.receive(frame.get_payload_as_bytes())
            if answer:
                transport.send(WSMsgType.TEXT, answer)


class RpcServer:
    """The RPC server of one exchange."""

    protocol: Final = "rpc"

    def __init__(
        self, exchange: Exchange, mischief: Mischief, chain_id: str = "injective-777"
    ) -> None:
        self.clients: set[WSTransport] = set()
        self._calls = RpcCalls(exchange, mischief, chain_id)
        self._mischief = mischief
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def asked(self) -> Counter[int]:
        """How often the results of each block were asked for."""
        return self._calls.asked

    async def start(self) -> None:
        """Listen, on the port it had before if it had one."""
        self._server = await ws_create_server(
            self._accept, "127.0.0.1", self._port, logger_name="simulator"
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and cut every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.cut()

    def cut(self) -> None:
        """Cut every connection."""
        for client in list(self.clients):
            client.disconnect(graceful=False)
        self.clients.clear()

    def forget(self) -> None:
        """Keep no answer: the chain is another one."""
        self._calls.forget()

    def receive(self, payload: bytes) -> bytes:
        """Answer a request of a WebSocket client; nothing while deaf."""
        if self._mischief.find(faults.Deaf, "rpc"):
            return b""
        try:
            request = msgspec.json.decode(payload)
        except msgspec.DecodeError as error:
            data = f"error unmarshaling request: {error}"
            fields = {"code": -32700, "message": "Parse error. Invalid JSON", "data": data}
            return msgspec.json.encode({"jsonrpc": "2.0", "error": fields})
        method, params = request.get("method", ""), request.get("params") or {}
        return self._calls.answer(request.get("id"), method, params)

    def _accept(self, request: WSUpgradeRequest) -> Any:
        status = self._mischief.refuse("rpc")
        path, _, query = request.path.decode().partition("?")
        if status:
            response = WSUpgradeResponse.create_error_response(
                status, b"refused", self._mischief.retry_later("rpc")
            )
        elif path == "/websocket":
            return _Client(self)
        elif path.strip("/") in METHODS:
            params = dict(urllib.parse.parse_qsl(query))
            answer = self._calls.answer(-1, path.strip("/"), params)
            headers = {"Content-Type": "application/json"}
            # An error of JSON-RPC is one of HTTP too.
            is_error = b'"error":' in answer[:60]
            response = (
                WSUpgradeResponse.create_error_response(500, answer, headers)
                if is_error
                else WSUpgradeResponse.create_ok_response(answer, headers)
            )
        else:
            response = WSUpgradeResponse.create_error_response(404, b"404 page not found\n")
        return WSUpgradeResponseWithListener(response, None)
