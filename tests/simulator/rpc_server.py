"""
CometBFT's RPC: ``block_results``, ``header`` and ``status``, over WebSocket and plain HTTP.

One port serves both, as the node's does: ``GET /status`` and ``ws://…/websocket``.
"""

import asyncio
import functools
import urllib.parse
from collections.abc import Mapping
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
from tests.simulator.events_json import block_results, hash_text, time_text
from tests.simulator.exchange import Exchange, SimBlock
from tests.simulator.mischief import Mischief

_CHAIN_ID: Final = "injective-777"


class RpcError(Exception):
    """An error answer: code, message, data."""


class RpcCalls:
    """The calls, without a socket."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._results = functools.lru_cache(maxsize=16)(self._block_results)

    def answer(self, request_id: Any, method: str, params: Mapping[str, Any]) -> bytes:
        """Return a whole JSON-RPC answer."""
        head = b'{"jsonrpc":"2.0","id":%b,' % msgspec.json.encode(request_id)
        try:
            return head + b'"result":%b}' % self._result(method, params)
        except RpcError as error:
            code, message, data = error.args
            fields = {"code": code, "message": message} | ({"data": data} if data else {})
            return head + b'"error":%b}' % msgspec.json.encode(fields)

    def _result(self, method: str, params: Mapping[str, Any]) -> bytes:
        match method:
            case "health":
                return b"{}"
            case "status":
                return msgspec.json.encode(self._status())
            case "header":
                return msgspec.json.encode({"header": self._header(self._block(params))})
            case "block_results":
                return self._results(self._block(params).height)
        raise RpcError(-32601, "Method not found", "")

    def _block(self, params: Mapping[str, Any]) -> SimBlock:
        exchange = self._exchange
        asked = str(params.get("height") or exchange.height).strip('"')
        if not asked.lstrip("-").isdigit():
            data = "error converting http params to arguments: invalid 64-bit integer encoding"
            raise RpcError(-32602, "Invalid params", f'{data} "{asked}", expected string')
        height = int(asked)
        if height <= 0:
            reason = f"height must be greater than 0, but got {height}"
        elif height > exchange.height:
            reason = (
                f"height {height} must be less than or equal to the current "
                f"blockchain height {exchange.height}"
            )
        elif height < exchange.oldest:
            reason = f"height {height} is not available, lowest height is {exchange.oldest}"
        else:
            return exchange.block(height)
        raise RpcError(-32603, "Internal error", reason)

    def _block_results(self, height: int) -> bytes:
        exchange = self._exchange
        return msgspec.json.encode(block_results(exchange, exchange.block(height)))

    def _header(self, block: SimBlock) -> dict[str, Any]:
        height = block.height
        return {
            "version": {"block": "11"},
            "chain_id": _CHAIN_ID,
            "height": str(height),
            "time": time_text(block.time_ms),
            "last_block_id": {
                "hash": hash_text(height - 1, "block"),
                "parts": {"total": 1, "hash": hash_text(height - 1, "parts")},
            },
            "app_hash": hash_text(height, "app"),
            "proposer_address": hash_text(0, "validator")[:40],
        }

    def _status(self) -> dict[str, Any]:
        exchange = self._exchange
        newest = exchange.block(exchange.height) if exchange.height >= exchange.oldest else None
        return {
            "node_info": {"network": _CHAIN_ID, "version": "1.0.1", "moniker": "simulator"},
            "sync_info": {
                "latest_block_hash": hash_text(exchange.height, "block"),
                "latest_app_hash": hash_text(exchange.height, "app"),
                "latest_block_height": str(exchange.height),
                "latest_block_time": time_text(newest.time_ms if newest else 0),
                "earliest_block_height": str(exchange.oldest),
                "catching_up": False,
            },
        }


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

    def __init__(self, exchange: Exchange, mischief: Mischief) -> None:
        self.clients: set[WSTransport] = set()
        self._calls = RpcCalls(exchange)
        self._mischief = mischief
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

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
            response = WSUpgradeResponse.create_error_response(status, b"refused")
        elif path == "/websocket":
            return _Client(self)
        else:
            params = dict(urllib.parse.parse_qsl(query))
            answer = self._calls.answer(-1, path.strip("/"), params)
            headers = {"Content-Type": "application/json"}
            response = WSUpgradeResponse.create_ok_response(answer, headers)
        return WSUpgradeResponseWithListener(response, None)
