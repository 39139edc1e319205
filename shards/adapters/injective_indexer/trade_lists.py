"""
The blocks that an indexer names: the height and the time of each trade in its list.

An indexer has no block hashes and no network id. Its list of past trades is what identifies its
chain: another chain has no trade of the same height and time.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import grpc.aio

from shards.adapters.injective_indexer.connection import OWN
from shards.adapters.injective_indexer.service import Service
from shards.net.access import Access
from shards.protocol.chain import SAME_NS, Mark

_TIMEOUT_S: Final = 4.0
_PAGE: Final = 100
_PAGES: Final = 10
"""Pages read to find the trades of one block; no two seconds have more."""
_AROUND_MS: Final = 1_000
_MS: Final = 1_000_000
_MOST: Final = 1 << 63


class TradeLists:
    """Queries for the trades of all markets, at any endpoint."""

    def __init__(self, services: Mapping[bool, Service], access: Access) -> None:
        """``services`` are the spot (True) and the derivative one."""
        self._services = services
        self._access = access
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def newest(self, endpoint: str) -> list[Mark]:
        """
        Return the blocks of the newest listed trades, the latest first.

        Raises:
            SourceError: If a query fails.

        """
        found: dict[int, Mark] = {}
        for service in self._services.values():
            answer = await self._page(endpoint, service, start_ms=0, end_ms=0, skip=0)
            found |= {mark.height: mark for mark in _marks(answer.trades)}
        return sorted(found.values(), key=lambda mark: mark.time, reverse=True)

    async def lists(self, endpoint: str, mark: Mark) -> bool:
        """
        Return whether an endpoint lists a trade of a block, by its height and its time.

        Raises:
            SourceError: If a query fails.

        """
        at = mark.time // _MS
        for service in self._services.values():
            for page in range(_PAGES):
                answer = await self._page(
                    endpoint,
                    service,
                    start_ms=max(1, at - _AROUND_MS),
                    end_ms=at + _AROUND_MS,
                    skip=page * _PAGE,
                )
                if any(is_same(mark, listed) for listed in _marks(answer.trades)):
                    return True
                if len(answer.trades) < _PAGE:
                    break
        return False

    async def _page(
        self, endpoint: str, service: Service, *, start_ms: int, end_ms: int, skip: int
    ) -> Any:
        if endpoint not in self._channels:
            self._channels[endpoint] = self._access.open_channel(endpoint, options=OWN)
        method, request = service.all_trades(
            self._channels[endpoint], start_ms=start_ms, end_ms=end_ms, skip=skip, limit=_PAGE
        )
        answer, _ = await self._access.query(endpoint, method, request, timeout_s=_TIMEOUT_S)
        return answer

    async def aclose(self) -> None:
        """Close the channels."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()


def is_same(one: Mark, other: Mark) -> bool:
    """Return whether two marks are the same block, as far as an indexer tells."""
    return one.height == other.height and abs(one.time - other.time) <= SAME_NS


def _marks(trades: Iterable[Any]) -> Iterable[Mark]:
    """Yield the blocks of listed trades; a trade whose id or time names none is left out."""
    for trade in trades:
        height, time = trade.trade_id.partition("_")[0], trade.executed_at * _MS
        is_height = height.isascii() and height.isdigit() and len(height) < len(str(_MOST))
        if is_height and 0 < time < _MOST:
            yield Mark(int(height), "", time)
