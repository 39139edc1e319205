"""
CometBFT RPC over its WebSocket: the node's height, and the record of past blocks.

One connection, made when it is first needed; requests in flight share it. The WebSocket
serves the same calls as plain HTTP and needs no HTTP client in a shard.
"""

import asyncio
import functools
from typing import Any, Final

import msgspec
from picows import WSMsgType, WSTransport

from shards.net import websocket
from shards.net.access import Access
from shards.protocol.errors import SourceError

_TIMEOUT_S: Final = 5.0


class _Id(msgspec.Struct):
    id: int = -1


_id: Final = msgspec.json.Decoder(_Id)


def websocket_url(rpc: str) -> str:
    """Turn ``http://host:port`` into the WebSocket URL of the same RPC server."""
    return rpc.replace("http", "ws", 1).rstrip("/") + "/websocket"


class Rpc:
    """A client of one RPC endpoint."""

    def __init__(
        self, endpoint: str, access: Access | None = None, *, timeout_s: float = _TIMEOUT_S
    ) -> None:
        self.endpoint = endpoint
        self._access = access or Access()
        self._timeout_s = timeout_s
        self._url = websocket_url(endpoint)
        self._transport: WSTransport | None = None
        self._connecting = asyncio.Lock()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._ids = 0

    async def call(self, method: str, *, within_s: float = 0.0, **params: Any) -> bytes:
        """
        Make one call and return the whole JSON-RPC answer, errors included, undecoded.

        Args:
            within_s: How long to wait, where that is not this client's time-out.

        Raises:
            SourceError: If no answer came.

        """
        await self._access.turn(self._url)
        try:
            async with asyncio.timeout(within_s or self._timeout_s):
                transport = await self._connected()
                self._ids += 1
                number = self._ids
                answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
                self._waiting[number] = answer
                request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
                try:
                    transport.send(WSMsgType.TEXT, msgspec.json.encode(request))
                    return await answer
                finally:
                    self._waiting.pop(number, None)
        except TimeoutError:
            # Half open, for all we know: the next call makes a new connection.
            self.close()
            raise SourceError(
                self.endpoint, f"{method}: no answer", status="DEADLINE_EXCEEDED"
            ) from None

    async def _connected(self) -> WSTransport:
        async with self._connecting:
            if self._transport is None or self._transport.is_disconnected:
                self._transport, listener = await websocket.connect(
                    self._url, self._receive, access=self._access
                )
                listener.ended.add_done_callback(functools.partial(self._ended, listener))
            return self._transport

    def _receive(self, payload: memoryview | bytes, ts_recv: int, last: bool) -> None:
        answer = bytes(payload)
        try:
            number = _id.decode(answer).id
        except msgspec.DecodeError:
            return
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return
        if len(answer) > self._access.message_bytes:
            # It was nearly here when its size was seen; whether it still arrives is chance.
            reason = f"answer is larger than limits.message_bytes ({self._access.message_bytes:,})"
            waiting.set_exception(SourceError(self.endpoint, reason, too_large=True))
        else:
            waiting.set_result(answer)

    def _ended(self, listener: websocket.Listener, ended: "asyncio.Future[str]") -> None:
        reason = "connection lost" if ended.exception() else ended.result()
        error = SourceError(self.endpoint, reason, too_large=listener.too_large)
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(error)

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)
            self._transport = None


class _SyncInfo(msgspec.Struct):
    latest_block_height: int
    earliest_block_height: int = 0
    catching_up: bool = False


class _Status(msgspec.Struct):
    sync_info: _SyncInfo


class _StatusAnswer(msgspec.Struct):
    result: _Status | None = None


_status: Final = msgspec.json.Decoder(_StatusAnswer, strict=False)


async def latest_height(rpc: Rpc) -> int:
    """
    Ask for the node's newest block.

    Raises:
        SourceError: If the node does not say.

    """
    answer = await rpc.call("status")
    try:
        status = _status.decode(answer).result
    except msgspec.DecodeError as error:
        raise SourceError(rpc.endpoint, f"status: {error}") from None
    if status is None:
        raise SourceError(rpc.endpoint, f"status: {answer[:200]!r}")
    return status.sync_info.latest_block_height
