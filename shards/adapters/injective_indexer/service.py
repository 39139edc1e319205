"""One of the indexer's two exchange services, spot or derivative, over any channel: raw bytes."""

from collections.abc import Sequence
from typing import Any

import grpc.aio

from shards.adapters.injective_indexer.decoder import Stream
from shards.adapters.messages import INJECTIVE

_METHODS: dict[Stream, str] = {"book": "StreamOrderbookUpdate", "trades": "StreamTradesV2"}


class Service:
    """The names and messages of a service; binary options are in the derivative one."""

    def __init__(self, *, spot: bool) -> None:
        name = "spot" if spot else "derivative"
        self.spot = spot
        self.name = name
        package = f"injective_{name}_exchange_rpc"
        self.messages: Any = INJECTIVE.package(package)
        self._service = f"{package}.Injective{name.title()}ExchangeRPC"

    def stream(
        self, channel: grpc.aio.Channel, stream: Stream, market_id: str, metadata: Any
    ) -> Any:
        """Open one market's stream; iterate the call for payloads."""
        method = _METHODS[stream]
        request = getattr(self.messages, f"{method}Request")
        open_ = INJECTIVE.stub(self._service, channel).raw(method)
        return open_(request(market_ids=[market_id]), metadata=metadata)

    def sequences(self, channel: grpc.aio.Channel, market_ids: Sequence[str]) -> tuple[Any, Any]:
        """Return the method and request that show the current sequence of some books, as raw bytes."""
        # Never without ids, which would mean every market.
        assert market_ids
        request = self.messages.OrderbooksV2Request(market_ids=market_ids, depth=1)
        return INJECTIVE.stub(self._service, channel).raw("OrderbooksV2"), request

    def books(self, channel: grpc.aio.Channel, market_ids: Sequence[str]) -> tuple[Any, Any]:
        """Return the method and request for some whole books."""
        assert market_ids
        request = self.messages.OrderbooksV2Request(market_ids=market_ids, depth=0)
        return INJECTIVE.stub(self._service, channel).OrderbooksV2, request

    def trades(
        self,
        channel: grpc.aio.Channel,
        market_ids: Sequence[str],
        *,
        start_ms: int,
        skip: int,
        limit: int,
    ) -> tuple[Any, Any]:
        """Return the method and request for a page of past trades, newest first."""
        assert market_ids
        request = self.messages.TradesV2Request(
            market_ids=market_ids, start_time=start_ms, skip=skip, limit=limit
        )
        return INJECTIVE.stub(self._service, channel).TradesV2, request

    def all_trades(
        self, channel: grpc.aio.Channel, *, start_ms: int, end_ms: int, skip: int, limit: int
    ) -> tuple[Any, Any]:
        """Return the method and request for a page of the past trades of every market, newest first."""
        request = self.messages.TradesV2Request(
            start_time=start_ms, end_time=end_ms, skip=skip, limit=limit
        )
        return INJECTIVE.stub(self._service, channel).TradesV2, request
