"""A chain-stream WebSocket client for tests: send requests, keep every payload as it came."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from picows import WSMsgType

from shards.net import websocket

EVERYTHING: Final = {
    "spot_orderbooks_filter": {"market_ids": ["*"]},
    "derivative_orderbooks_filter": {"market_ids": ["*"]},
    "spot_trades_filter": {"market_ids": ["*"], "subaccount_ids": ["*"]},
    "derivative_trades_filter": {"market_ids": ["*"], "subaccount_ids": ["*"]},
}


def subscribe(request_id: Any, name: str, filters: Any) -> dict[str, Any]:
    """Build a subscribe request."""
    params = {"req": {"subscription_id": name, "filter": filters}}
    return {"jsonrpc": "2.0", "id": request_id, "method": "subscribe", "params": params}


async def listen(
    url: str,
    requests: Sequence[Any],
    enough: Callable[[list[bytes]], object],
    *,
    within_s: float = 30.0,
) -> list[bytes]:
    """
    Send requests (objects, or raw bytes) and collect until `enough`.

    Raises:
        TimeoutError: If it never is; also where the connection ended before.

    """
    heard: list[bytes] = []
    done = asyncio.Event()

    def receive(payload: memoryview | bytes, ts_recv: int, last: bool) -> None:
        heard.append(bytes(payload))
        if enough(heard):
            done.set()

    transport, _ = await websocket.connect(url, receive)
    try:
        for request in requests:
            raw = request if isinstance(request, bytes) else msgspec.json.encode(request)
            transport.send(WSMsgType.TEXT, raw)
        async with asyncio.timeout(within_s):
            await done.wait()
    finally:
        transport.disconnect(graceful=False)
    return heard


def count(number: int) -> Callable[[list[bytes]], bool]:
    """Stop after this many payloads."""
    return lambda heard: len(heard) >= number
