"""
Source ``chain-ws``: the node's own WebSocket, one connection, one subscription per market.

Each subscription receives every block, including those without events in its market. A node
silently drops a reader that falls behind, while the socket stays open. The shard's liveness check
detects that and calls `resubscribe` or `reconnect`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from picows import WSMsgType, WSTransport

from shards.adapters.injective_chain import ws_decoder as plain, ws_extras_decoder as full
from shards.adapters.injective_chain.filters import filters
from shards.adapters.injective_chain.trial import TRY_S, ChainSource
from shards.adapters.interface import Sink
from shards.core.pipeline import Decoder
from shards.net import websocket
from shards.net.access import Access
from shards.protocol.channels import DEFAULT_CHANNELS, EXTRAS
from shards.protocol.errors import SourceError
from shards.protocol.events import Block, Cause
from shards.protocol.settings import Market

log = logging.getLogger(__name__)

_BATCH: Final = 20
"""Subscriptions sent at once."""


def subscribe_request(
    request_id: int, market: Market, channels: Sequence[str] = DEFAULT_CHANNELS
) -> bytes:
    """Build the JSON-RPC request for one market's channels."""
    params: dict[str, Any] = {
        "req": {
            # Unique per connection: the node cleans up by this name.
            "subscription_id": f"m{request_id}",
            "filter": filters([market], channels),
        }
    }
    return _request(request_id, "subscribe", params)


def unsubscribe_request(request_id: int, subscription: int) -> bytes:
    """Build the JSON-RPC request that ends a subscription."""
    return _request(request_id, "unsubscribe", {"req": {"subscription_id": f"m{subscription}"}})


def _request(request_id: int, method: str, params: dict[str, Any]) -> bytes:
    return msgspec.json.encode(
        {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    )


class ChainWs(ChainSource):
    """Manages one connection with all subscriptions of a shard."""

    def __init__(
        self,
        endpoints: Sequence[str],
        markets: Sequence[Market],
        sink: Sink,
        *,
        channels: Sequence[str] = DEFAULT_CHANNELS,
        subscribe_per_s: float,
        return_s: float,
        access: Access | None = None,
        path: int = 0,
        paths: int = 1,
    ) -> None:
        """
        ``path`` of ``paths`` sources that read the same markets: their subscriptions have different
        numbers, and the remainder names the path.
        """
        super().__init__("chain-ws", endpoints, sink)
        self._markets = {market.market_id: market for market in markets}
        self._channels = channels
        self.decode: Decoder = plain.decode if EXTRAS.isdisjoint(channels) else full.decode
        """Decodes the payloads of this source."""
        self._pause_s = _BATCH / subscribe_per_s
        self._return_s = return_s
        self._access = access or Access()
        self._transport: WSTransport | None = None
        self._listener: websocket.Listener | None = None
        self._ids, self._step = path, paths
        """The newest subscription, and the distance to the next."""
        self._of_market: dict[str, int] = {}
        self._due: asyncio.Queue[str] = asyncio.Queue()
        """Markets waiting to be subscribed."""

    async def _session(self, endpoint: str) -> None:
        transport, listener = await websocket.connect(
            endpoint, self._sink.receive, access=self._access
        )
        self._transport, self._listener = transport, listener
        log.info("chain-ws connected to %s", endpoint)
        self._due = asyncio.Queue()
        self._enqueue(self._markets)
        try:
            async with asyncio.TaskGroup() as tasks:
                subscribing = tasks.create_task(self._subscribe_due())
                returning = tasks.create_task(
                    self._look_for_better(endpoint, every_s=self._return_s)
                )
                reason = await listener.ended
                subscribing.cancel()
                returning.cancel()
        finally:
            self._transport = None
            self._of_market.clear()
            transport.disconnect(graceful=False)
        raise SourceError(endpoint, reason)

    async def _subscribe_due(self) -> None:
        """Subscribe the waiting markets, now and whenever some are added; never returns."""
        while True:
            batch = [await self._due.get()]
            while not self._due.empty() and len(batch) < _BATCH:
                batch.append(self._due.get_nowait())
            for market_id in batch:
                market = self._markets.get(market_id)
                if market is not None and market_id not in self._of_market:
                    self._subscribe(market)
            await asyncio.sleep(self._pause_s)

    def _enqueue(self, market_ids: Iterable[str]) -> None:
        for market_id in market_ids:
            self._due.put_nowait(market_id)

    def _subscribe(self, market: Market) -> None:
        if self._transport is None:
            return
        self._ids += self._step
        self._of_market[market.market_id] = self._ids
        self._sink.subscribed(self._ids, (market.market_id,))
        self._transport.send(WSMsgType.TEXT, subscribe_request(self._ids, market, self._channels))

    @property
    def _has_markets(self) -> bool:
        return bool(self._markets)

    async def _try_out(self, endpoint: str, *, since: Callable[[], int]) -> Block:
        market = next(iter(self._markets.values()))
        found: asyncio.Future[Block] = asyncio.get_running_loop().create_future()

        def take(payload: bytes | memoryview, ts_recv: int, last: bool) -> None:
            _, message = self.decode(payload, 0)
            if type(message) is Block and message.height >= since() and not found.done():
                found.set_result(message)

        transport, listener = await websocket.connect(endpoint, take, access=self._access)
        try:
            transport.send(WSMsgType.TEXT, subscribe_request(1, market, self._channels))
            done, _ = await asyncio.wait(
                (found, listener.ended), timeout=TRY_S, return_when=asyncio.FIRST_COMPLETED
            )
            if found in done:
                return found.result()
            ended = listener.ended in done and not listener.ended.exception()
            reason = listener.ended.result() if ended else f"no block at the head in {TRY_S:.0f} s"
            raise SourceError(endpoint, f"tried out: {reason}")
        finally:
            transport.disconnect(graceful=False)

    def add(self, markets: Iterable[Market]) -> None:
        """Subscribe more markets on the existing connection, at the usual pace."""
        new = {market.market_id: market for market in markets}
        self._markets |= new
        self._enqueue(new)

    def remove(self, market_ids: Iterable[str]) -> None:
        """End some markets' subscriptions."""
        for market_id in market_ids:
            del self._markets[market_id]
            self._unsubscribe(market_id)

    def resubscribe(self, market_id: str) -> None:
        """Replace one market's subscription on the existing connection."""
        market = self._markets.get(market_id)
        if market is not None:
            self._unsubscribe(market_id)
            self._subscribe(market)

    def _unsubscribe(self, market_id: str) -> None:
        old = self._of_market.pop(market_id, None)
        if old is not None and self._transport is not None:
            self._ids += self._step
            self._transport.send(WSMsgType.TEXT, unsubscribe_request(self._ids, old))

    def reconnect(self, cause: Cause, reason: str) -> None:
        """Close the connection; `run` opens a new one."""
        if self._transport is not None and self._listener is not None:
            self._cause = cause
            if not self._listener.ended.done():
                self._listener.ended.set_result(reason)
