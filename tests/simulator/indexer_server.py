"""
The indexer's exchange API over gRPC: spot and derivative service, unary and streams.

Streams begin with nothing and stay silent while nothing changes; not even the headers of
a stream come before its first message. No ids given means all markets of the service.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc

from tests.simulator import faults, indexer_proto
from tests.simulator.exchange import Exchange, SimBlock
from tests.simulator.grpc_calls import Call, StreamingServer
from tests.simulator.grpc_serving import Handlers, streaming, unary
from tests.simulator.indexer_queries import Service, takes
from tests.simulator.mischief import Mischief, Said

Telling = Callable[[SimBlock], Sequence[bytes]]
"""Makes the messages that one stream gets of one block."""


class _IndexerCall(Call):
    """A stream, and how it tells a block."""

    def __init__(
        self, telling: Telling, markets: Sequence[str], *, since: int, buffer: int
    ) -> None:
        wanted = frozenset(markets) if markets else None
        super().__init__("indexer", wanted, since=since, buffer=buffer)
        self.telling = telling


class IndexerServer(StreamingServer):
    """The indexer of one exchange; `lag_s` behind the chain."""

    protocol = "indexer"

    def __init__(
        self, exchange: Exchange, mischief: Mischief, *, buffer: int = 10_000, lag_s: float = 0.0
    ) -> None:
        super().__init__(mischief, buffer=buffer)
        self._exchange = exchange
        self._lag_s = lag_s
        self._levels = indexer_proto.Levels()
        self._updates: tuple[SimBlock | None, dict[str, bytes]] = (None, {})

    def handlers(self) -> Handlers:
        """Return both services."""
        services = [Service(self._exchange, spot=spot) for spot in (True, False)]
        return {service.name: self._methods(service) for service in services}

    def _methods(self, service: Service) -> dict[str, grpc.RpcMethodHandler]:
        pb = service.pb
        methods = {
            "Markets": unary(self._admitted(service.markets), pb.MarketsRequest),
            "OrderbookV2": unary(self._orderbook(service), pb.OrderbookV2Request),
            "OrderbooksV2": unary(self._from_store(service.orderbooks), pb.OrderbooksV2Request),
            "TradesV2": unary(self._from_store(service.trades), pb.TradesV2Request),
            "StreamOrderbookUpdate": streaming(
                self._stream_books(service), pb.StreamOrderbookUpdateRequest
            ),
            "StreamTradesV2": streaming(self._stream_trades(service), pb.StreamTradesV2Request),
        }
        if not service.spot:
            methods["BinaryOptionsMarkets"] = unary(
                self._admitted(service.binary_markets), pb.BinaryOptionsMarketsRequest
            )
        return methods

    def _admitted(self, answer: Callable[[Any], Any]) -> Any:
        async def call(request: Any, context: Any) -> Any:
            await self.admit(context)
            return answer(request)

        return call

    def _from_store(self, answer: Callable[[Any, int], Any]) -> Any:
        """Answer from the database, which may be slow, or a replica that is behind."""

        async def call(request: Any, context: Any) -> Any:
            await self.admit(context)
            found = answer(request, self._stored())
            slow = self.mischief.find(faults.SlowSnapshot, self.protocol)
            if slow:
                await asyncio.sleep(slow.delay_s)
            return found

        return call

    def _stored(self) -> int:
        """Return the height that queries are answered at."""
        stale = self.mischief.find(faults.StaleSnapshot, self.protocol)
        exchange = self._exchange
        return max(exchange.oldest, exchange.height - (stale.behind if stale else 0))

    def _orderbook(self, service: Service) -> Any:
        async def call(request: Any, context: Any) -> Any:
            await self.admit(context)
            if not service.has(request.market_id):
                await context.abort(grpc.StatusCode.NOT_FOUND, "object not found")
            book = service.book(request.market_id, request.depth, self._stored())
            return service.pb.OrderbookV2Response(orderbook=book)

        return call

    def _stream_books(self, service: Service) -> Any:
        async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
            wanted = frozenset(request.market_ids)

            def telling(block: SimBlock) -> Sequence[bytes]:
                return [
                    self._update(block, update.market_id)
                    for update in block.updates
                    if service.has(update.market_id) and (not wanted or update.market_id in wanted)
                ]

            async for message in self._stream(telling, list(wanted), context):
                yield message

        return stream

    def _stream_trades(self, service: Service) -> Any:
        async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
            def telling(block: SimBlock) -> Sequence[bytes]:
                markets = self._exchange.by_id
                return [
                    indexer_proto.trade_response(markets[market_id], trade, block.time_ms)
                    for market_id, trade in block.trades
                    if service.has(market_id) and takes(request, market_id, trade)
                ]

            ids = [*request.market_ids, *filter(None, [request.market_id])]
            async for message in self._stream(telling, ids, context):
                yield message

        return stream

    def _stream(
        self, telling: Telling, markets: Sequence[str], context: Any
    ) -> AsyncIterator[bytes]:
        since = self._exchange.height + 1
        call = _IndexerCall(telling, markets, since=since, buffer=self.buffer)
        return self.serve(call, context)

    def _update(self, block: SimBlock, market_id: str) -> bytes:
        """Write a market's update of a block, once for all streams that hear it."""
        if self._updates[0] is not block:
            self._updates = (block, {})
        made = self._updates[1]
        if market_id not in made:
            market, update = self._exchange.by_id[market_id], block.update_of[market_id]
            made[market_id] = indexer_proto.orderbook_update(
                market, update, block.time_ms, self._levels
            )
        return made[market_id]

    def publish(self, block: SimBlock) -> None:
        """Queue a block's events for every stream, once the indexer knows them."""
        if self._lag_s:
            asyncio.get_running_loop().call_later(self._lag_s, self._publish, block)
        else:
            self._publish(block)

    def _publish(self, block: SimBlock) -> None:
        for call in list(self.calls):
            assert isinstance(call, _IndexerCall)
            for said in self.mischief.say(block, call):
                self._tell(call, said)

    def _tell(self, call: _IndexerCall, said: Said) -> None:
        self.put(call, said, call.telling(said.block))
