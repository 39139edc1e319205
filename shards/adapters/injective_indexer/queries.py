"""Query the indexer for whole books and past trades, at the endpoint of the streams."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final

import grpc.aio

from shards.adapters.injective_indexer import decoder
from shards.adapters.injective_indexer.connection import OWN
from shards.adapters.injective_indexer.service import Service
from shards.net.access import Access
from shards.protocol.errors import DecodeError, SourceError
from shards.protocol.events import Snapshot
from shards.protocol.settings import Market

_TIMEOUT_S: Final = 10.0
_PAGE: Final = 100
_MS: Final = 1_000_000


class IndexerQueries:
    """Queries on a separate connection, so that no limit on streams can block them."""

    def __init__(
        self, endpoint: Callable[[], str], services: Mapping[bool, Service], access: Access
    ) -> None:
        """``endpoint`` returns the endpoint in use; ``services`` are spot (True) and derivative."""
        self._endpoint = endpoint
        self._services = services
        self._access = access
        self._channels: dict[str, grpc.aio.Channel] = {}

    def _channel(self) -> tuple[str, grpc.aio.Channel]:
        endpoint = self._endpoint()
        if endpoint not in self._channels:
            self._channels[endpoint] = self._access.open_channel(endpoint, options=OWN)
        return endpoint, self._channels[endpoint]

    async def books(self, markets: Iterable[Market]) -> list[Snapshot]:
        """
        Fetch whole books of some markets of one service; markets it does not know are omitted.

        Raises:
            SourceError: If the query fails or its answer cannot be read.

        """
        asked = {market.market_id: market for market in markets}
        service = self._services[next(iter(asked.values())).type == "spot"]
        endpoint, channel = self._channel()
        answer = await self._ask(endpoint, service.books(channel, list(asked)))
        try:
            return [
                decoder.snapshot(asked[single.market_id], single.orderbook)
                for single in answer.orderbooks
                if single.market_id in asked
            ]
        except DecodeError as error:
            raise SourceError(endpoint, str(error)) from None

    async def newest_trade(self, spot: bool, market_ids: Iterable[str]) -> int:
        """Return when the newest listed trade of these markets was executed; 0 without trades."""
        endpoint, channel = self._channel()
        query = self._services[spot].trades(channel, list(market_ids), start_ms=0, skip=0, limit=1)
        answer = await self._ask(endpoint, query)
        return max((trade.executed_at for trade in answer.trades), default=0) * _MS

    async def trades(self, spot: bool, market_ids: Iterable[str], since: int) -> list[Any]:
        """
        Fetch all trades of some markets since an instant, as messages.

        Raises:
            SourceError: If a query fails.

        """
        ids = list(market_ids)
        return [trade async for trade in self._pages(self._services[spot], ids, since // _MS)]

    async def _pages(self, service: Service, ids: list[str], start_ms: int) -> AsyncIterator[Any]:
        skip = 0
        while True:
            endpoint, channel = self._channel()
            query = service.trades(channel, ids, start_ms=start_ms, skip=skip, limit=_PAGE)
            answer = await self._ask(endpoint, query)
            for trade in answer.trades:
                yield trade
            # A server may return less than was asked for. New trades only shift the pages, so
            # that some trades are seen twice.
            skip += len(answer.trades)
            total = answer.paging.total
            if not answer.trades or (skip >= total if total else len(answer.trades) < _PAGE):
                return

    async def _ask(self, endpoint: str, query: tuple[Any, Any]) -> Any:
        method, request = query
        answer, _ = await self._access.query(endpoint, method, request, timeout_s=_TIMEOUT_S)
        return answer

    async def aclose(self) -> None:
        """Close the channels."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()
