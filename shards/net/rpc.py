"""
CometBFT RPC over its WebSocket: the node's height, and the record of past blocks.

One connection, opened on first use and shared by concurrent requests. The WebSocket offers the
same calls as plain HTTP, so a shard needs no HTTP client.
"""

import asyncio
import datetime
import functools
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import msgspec
from picows import WSMsgType, WSTransport

from shards.net import websocket
from shards.net.access import Access
from shards.protocol.chain import Mark, NodeView
from shards.protocol.errors import UNREADABLE, SourceError

_TIMEOUT_S: Final = 5.0


class _Id(msgspec.Struct):
    id: int = -1


_id: Final = msgspec.json.Decoder(_Id)


def websocket_url(rpc: str) -> str:
    """
    Return an RPC's WebSocket URL: ``https://host/x?apikey=K`` becomes
    ``wss://host/x/websocket?apikey=K``.
    """
    url = urlsplit(rpc)
    scheme = "wss" if url.scheme in ("https", "wss") else "ws"
    return urlunsplit((scheme, url.netloc, url.path.rstrip("/") + "/websocket", url.query, ""))


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
        Make one call and return the complete JSON-RPC answer undecoded, even if it is an error.

        Args:
            within_s: Time limit; 0: this client's default.

        Raises:
            SourceError: If no answer arrives.

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
            # The connection may be half open: the next call opens a new one.
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
        except UNREADABLE:
            return
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return
        if len(answer) > self._access.message_bytes:
            # Its size is known only when it has nearly arrived; whether it arrives fully is chance.
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
        """Close the connection."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)
            self._transport = None


_Height: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _SyncInfo(msgspec.Struct):
    latest_block_height: _Height
    latest_block_hash: str = ""
    latest_block_time: str = ""
    earliest_block_height: _Height = 0
    earliest_block_hash: str = ""
    earliest_block_time: str = ""
    catching_up: bool = False


class _NodeInfo(msgspec.Struct, frozen=True):
    network: str = ""


class _Status(msgspec.Struct):
    sync_info: _SyncInfo
    node_info: _NodeInfo = _NodeInfo()


class _BlockId(msgspec.Struct):
    hash: str


class _Header(msgspec.Struct):
    last_block_id: _BlockId
    time: str = ""


class _HeaderResult(msgspec.Struct):
    header: _Header | None = None


class _HeaderAnswer(msgspec.Struct):
    result: _HeaderResult | None = None


_header: Final = msgspec.json.Decoder(_HeaderAnswer)


class _StatusAnswer(msgspec.Struct):
    result: _Status | None = None


_status: Final = msgspec.json.Decoder(_StatusAnswer, strict=False)


async def latest_height(rpc: Rpc) -> int:
    """
    Return the node's newest block.

    Raises:
        SourceError: If the node does not answer with one.

    """
    return (await _status_of(rpc)).sync_info.latest_block_height


async def view_of(rpc: Rpc) -> NodeView:
    """
    Return a node's network id, newest block and oldest block.

    Raises:
        SourceError: If the node does not answer with them.

    """
    status = await _status_of(rpc)
    sync = status.sync_info
    latest = Mark(sync.latest_block_height, sync.latest_block_hash, _ns(sync.latest_block_time))
    earliest = Mark(
        sync.earliest_block_height, sync.earliest_block_hash, _ns(sync.earliest_block_time)
    )
    return NodeView(status.node_info.network, latest, earliest, sync.catching_up)


async def block_hash(rpc: Rpc, height: int) -> str:
    """
    Return the hash of a block that is not the newest; empty if the node does not have it.

    Raises:
        SourceError: If no readable answer arrives.

    """
    # The next block's header contains it; a complete block with transactions would be larger.
    header = await _header_of(rpc, height + 1)
    return header.last_block_id.hash if header is not None else ""


async def block_time(rpc: Rpc, height: int) -> int:
    """
    Return a block's time in ns; 0 if the node does not have it.

    Raises:
        SourceError: If no readable answer arrives.

    """
    header = await _header_of(rpc, height)
    return _ns(header.time) if header is not None else 0


async def _header_of(rpc: Rpc, height: int) -> _Header | None:
    answer = await rpc.call("header", height=str(height))
    try:
        result = _header.decode(answer).result
    except UNREADABLE as error:
        raise SourceError(rpc.endpoint, f"header: {error}") from None
    return result.header if result is not None else None


def _ns(text: str) -> int:
    """Parse a CometBFT timestamp to the nanosecond; 0 if there is none."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    try:
        seconds = datetime.datetime.fromisoformat(whole + "+00:00").timestamp()
        ns = int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
    except (ValueError, OverflowError):
        return 0
    return ns if 0 < ns < 1 << 63 else 0


async def _status_of(rpc: Rpc) -> _Status:
    answer = await rpc.call("status")
    try:
        status = _status.decode(answer).result
    except UNREADABLE as error:
        raise SourceError(rpc.endpoint, f"status: {error}") from None
    if status is None:
        raise SourceError(rpc.endpoint, f"status: {answer[:200]!r}")
    return status
