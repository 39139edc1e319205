"""One of the indexer's two exchange services, spot or derivative, over any channel: raw bytes."""

from collections.abc import Sequence
from typing import Any

import grpc.aio

from shards.adapters import stubs
from shards.adapters.injective_indexer.decoder import Stream

_METHODS: dict[Stream, str] = {"book": "StreamOrderbookUpdate", "trades": "StreamTradesV2"}


class Service:
    """The names and messages of a service; binary options are in the derivative one."""

    def __init__(self, *, spot: bool) -> None:
        name = "spot" if spot else "derivative"
        self.spot = spot
        self.name = name
        self.messages: Any = stubs.load(f"exchange.injective_{name}_exchange_rpc_pb2")
        self._prefix = f"/injective_{name}_exchange_rpc.Injective{name.title()}ExchangeRPC"

    def stream(
        self, channel: grpc.aio.Channel, stream: Stream, market_id: str, metadata: Any
    ) -> Any:
        """Open one market's stream; iterate the call for payloads."""
        method = _METHODS[stream]
        request = getattr(self.messages, f"{method}Request")
        open_: Any = channel.unary_stream(
            f"{self._prefix}/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=None,
        )
        return open_(request(market_ids=[market_id]), metadata=metadata)

    def sequences(self, channel: grpc.aio.Channel, market_ids: Sequence[str]) -> tuple[Any, Any]:
        """Return the method and the request that show how far some books are, as raw bytes."""
        # Never without ids: that would mean every market.
        assert market_ids
        request = self.messages.OrderbooksV2Request(market_ids=market_ids, depth=1)
        return self._method(channel, "OrderbooksV2", parsed=False), request

    def books(self, channel: grpc.aio.Channel, market_ids: Sequence[str]) -> tuple[Any, Any]:
        """Return the method and the request for some whole books."""
        assert market_ids
        request = self.messages.OrderbooksV2Request(market_ids=market_ids, depth=0)
        return self._method(channel, "OrderbooksV2"), request

    def trades(
        self,
        channel: grpc.aio.Channel,
        market_ids: Sequence[str],
        *,
        start_ms: int,
        skip: int,
        limit: int,
    ) -> tuple[Any, Any]:
        """Return the method and the request for a page of past trades, the newest first."""
        assert market_ids
        request = self.messages.TradesV2Request(
            market_ids=market_ids, start_time=start_ms, skip=skip, limit=limit
        )
        return self._method(channel, "TradesV2"), request

    def _method(self, channel: grpc.aio.Channel, name: str, *, parsed: bool = True) -> Any:
        messages = self.messages
        return channel.unary_unary(
            f"{self._prefix}/{name}",
            request_serializer=getattr(messages, f"{name}Request").SerializeToString,
            response_deserializer=getattr(messages, f"{name}Response").FromString
            if parsed
            else None,
        )
