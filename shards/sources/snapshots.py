"""Fetch whole books by the chain's v2 query, pinned to a height where one is asked for."""

from collections.abc import Sequence
from typing import Any, Final

import grpc
import grpc.aio

from shards.config import Market
from shards.decoders import chain_grpc
from shards.errors import SourceError
from shards.events import Snapshot
from shards.sources import stubs

_LIMIT: Final = 1_000_000
"""Levels per side. Left out, the node answers 20 and the book looks whole but is not."""
_TIMEOUT_S: Final = 5.0
_HEIGHT: Final = "x-cosmos-block-height"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class Snapshots:
    """Book queries over one channel per endpoint; a failing endpoint gives way to the next."""

    def __init__(self, endpoints: Sequence[str], *, tls: bool) -> None:
        self._endpoints = list(endpoints)
        self._tls = tls
        self._query: Any = stubs.load("injective.exchange.v2.query_pb2")
        self._grpc: Any = stubs.load("injective.exchange.v2.query_pb2_grpc")
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None

    def _connected(self) -> Any:
        if self._stub is None:
            endpoint = self._endpoints[0]
            self._channel = (
                grpc.aio.secure_channel(endpoint, grpc.ssl_channel_credentials(), _OPTIONS)
                if self._tls
                else grpc.aio.insecure_channel(endpoint, _OPTIONS)
            )
            self._stub = self._grpc.QueryStub(self._channel)
        return self._stub

    async def fetch(self, market: Market, height: int = 0) -> Snapshot:
        """
        Fetch one book, as it stood after ``height``, or now where that is 0.

        Raises:
            SourceError: If the query fails.

        """
        stub = self._connected()
        if market.type == "spot":
            request = self._query.QuerySpotOrderbookRequest(
                market_id=market.market_id, limit=_LIMIT
            )
            method = stub.SpotOrderbook
        else:
            request = self._query.QueryDerivativeOrderbookRequest(
                market_id=market.market_id, limit=_LIMIT
            )
            method = stub.DerivativeOrderbook
        metadata = ((_HEIGHT, str(height)),) if height else ()
        try:
            call = method(request, timeout=_TIMEOUT_S, metadata=metadata)
            response = await call
            answered = dict(await call.initial_metadata())
        except grpc.aio.AioRpcError as error:
            await self._give_way()
            reason = f"order book of {market.symbol}: {error.code().name} {error.details()}"
            raise SourceError(self._endpoints[-1], reason) from None
        return chain_grpc.snapshot(market.market_id, int(answered.get(_HEIGHT, height)), response)

    async def _give_way(self) -> None:
        """Put the endpoint that failed last in line."""
        if len(self._endpoints) > 1:
            await self.close()
            self._endpoints.append(self._endpoints.pop(0))

    async def close(self) -> None:
        """Close the channel."""
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close()
