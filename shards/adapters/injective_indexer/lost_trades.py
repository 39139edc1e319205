"""Lost trades from the indexer, for blocks whose events no node has any more."""

import functools
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from shards.adapters.injective_indexer import decoder
from shards.adapters.interface import TimeOf
from shards.adapters.messages import INJECTIVE
from shards.net.access import Access
from shards.protocol.errors import SourceError
from shards.protocol.events import Block, Trade, number_of
from shards.protocol.settings import Market

_PAGE: Final = 100
_TIMEOUT_S: Final = 5.0
_AROUND_MS: Final = 1_000
"""The indexer's trade times are block times; a second around them allows for rounding."""


class IndexerReplay:
    """
    The trades of lost blocks from ``TradesV2``, looked up by the block's time.

    Only trades: the block has ``has_books=False``, so that snapshots of the books are fetched.
    """

    def __init__(
        self,
        endpoint: str,
        markets: Mapping[str, Market],
        time_of: TimeOf,
        access: Access | None = None,
    ) -> None:
        self.name = f"indexer {endpoint}"
        self._endpoint = endpoint
        self._time_of = time_of
        access = access or Access()
        self._channel = access.open_channel(endpoint)
        query = functools.partial(access.query, endpoint, timeout_s=_TIMEOUT_S)
        self._services = [
            _Service(query, self._channel, markets, spot=spot) for spot in (True, False)
        ]

    async def fetch(self, height: int) -> Block:
        """Fetch one block's trades."""
        ts_event = await self._time_of(height)
        trades: list[tuple[str, Trade]] = []
        try:
            for service in self._services:
                trades += [t async for t in service.trades(height, ts_event // 1_000_000)]
            trades.sort(key=lambda of_market: number_of(of_market[1]))
        except (ArithmeticError, ValueError) as error:
            raise SourceError(self._endpoint, f"a trade cannot be read: {error!r}") from None
        return Block(height, ts_event, trades, [], has_books=False)

    async def aclose(self) -> None:
        """Close the channel."""
        await self._channel.close()


class _Service:
    """The spot or the derivative service of the indexer; the latter includes binary options."""

    def __init__(
        self, query: Any, channel: Any, markets: Mapping[str, Market], *, spot: bool
    ) -> None:
        self._ask = query
        name = "spot" if spot else "derivative"
        package = f"injective_{name}_exchange_rpc"
        self._query: Any = INJECTIVE.package(package)
        self._stub = INJECTIVE.stub(f"{package}.Injective{name.title()}ExchangeRPC", channel)
        self._decode = decoder.spot_trade if spot else decoder.derivative_trade
        self._is_spot = spot
        self._markets = markets

    async def trades(self, height: int, time_ms: int) -> AsyncIterator[tuple[str, Trade]]:
        """Yield one block's trades in our markets, page by page."""
        skip = 0
        # Evaluated on each call: the markets change while we run.
        ours = [m.market_id for m in self._markets.values() if (m.type == "spot") == self._is_spot]
        while ours:
            request = self._query.TradesV2Request(
                market_ids=ours,
                start_time=time_ms - _AROUND_MS,
                end_time=time_ms + _AROUND_MS,
                limit=_PAGE,
                skip=skip,
            )
            answer, _ = await self._ask(self._stub.TradesV2, request)
            for message in answer.trades:
                market = self._markets.get(message.market_id)
                if market is not None and message.trade_id.startswith(f"{height}_"):
                    yield market.market_id, self._decode(message, market)
            skip += len(answer.trades)
            if len(answer.trades) < _PAGE:
                return
