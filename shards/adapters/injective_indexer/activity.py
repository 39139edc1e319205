"""
How active markets are according to an indexer, if no chain endpoint is configured.

The indexer dates everything: each book and level by its last change, each trade by its block. One
query is therefore enough, and recent dates show an active market.
"""

import functools
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from shards.adapters.injective_indexer.markets import service
from shards.adapters.interface import Evidence
from shards.protocol.settings import Market

if TYPE_CHECKING:
    from shards.net.access import Access

_TIMEOUT_S: Final = 5.0
_BATCH: Final = 100
_OF_LATE_MS: Final = 60_000


class _Seen(msgspec.Struct):
    """An indexer's data on one market."""

    has_book: bool = False
    changed_ms: int = 0
    """The newest date of its book, levels and trades; 0 if none is dated."""


def assess(endpoint: str, access: "Access", markets: Sequence[Market]) -> dict[str, Evidence]:
    """
    Return what an indexer knows of markets before they are collected.

    Raises:
        SourceError: If a query fails.

    """
    seen: dict[str, _Seen] = {}
    with access.open_blocking(endpoint) as channel:
        for name in ("spot", "derivative"):
            ids = [m.market_id for m in markets if (m.type == "spot") == (name == "spot")]
            messages, stub = service(channel, name)
            query = functools.partial(access.blocking_query, endpoint, timeout_s=_TIMEOUT_S)
            for batch in _batches(ids):
                request = messages.OrderbooksV2Request(market_ids=batch, depth=1)
                answer, _ = query(stub.OrderbooksV2, request)
                seen |= {one.market_id: _book(one.orderbook) for one in answer.orderbooks}
            answer, _ = query(stub.TradesV2, messages.TradesV2Request(limit=_BATCH))
            for trade in answer.trades:
                market = seen.setdefault(trade.market_id, _Seen())
                market.changed_ms = max(market.changed_ms, trade.executed_at)
    now_ms = time.time_ns() // 1_000_000
    return {
        m.market_id: _evidence(seen[m.market_id], now_ms) for m in markets if m.market_id in seen
    }


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]


def _book(book: Any) -> _Seen:
    levels = [*book.buys, *book.sells]
    # Zero in Go's time is long before the epoch.
    dates = [book.timestamp, *(level.timestamp for level in levels), 0]
    return _Seen(bool(levels), max(dates))


def _evidence(seen: _Seen, now_ms: int) -> Evidence:
    moved = now_ms - seen.changed_ms < _OF_LATE_MS if seen.changed_ms else None
    return Evidence(seen.has_book, moved)
