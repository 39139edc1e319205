"""
Look at the chain twice to see how active its markets are, without waiting in between.

The second look is into the past: queries can be pinned to a height, so best prices and traded
volumes are compared with those of a minute ago, and of up to a day ago if the node still has that
state. Both are batched: a handful of queries for any number of markets.
"""

import logging
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import msgspec

from shards.adapters.injective_chain.amounts import amount_in
from shards.adapters.injective_chain.heights import HEIGHT, height_in
from shards.adapters.interface import Evidence
from shards.adapters.messages import INJECTIVE
from shards.protocol.errors import SourceError
from shards.protocol.settings import Market

if TYPE_CHECKING:
    from shards.net.access import Access

log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 5.0
_MINUTE: Final = (100, 30, 10, 3)
"""Blocks to look back, about a minute first; young or just-synced nodes have less state."""
_LONG_ENOUGH: Final = 30
"""Minimum blocks: no change within fewer proves nothing."""
_SPANS: Final = (144_000, 36_000, 6_000, 1_000)
"""Blocks over which volume is measured, a day first; nodes prune state at different ages."""
_SINGLE: Final = 20
"""Most markets queried one by one, because batches omit their books (binary options)."""
_ONE: Final = 10**18


class _Look(msgspec.Struct):
    """The markets at one height, by id; without those that the node omits."""

    height: int = 0
    tops: dict[str, tuple[str, ...]] = {}
    """Best bid and ask as text; empty if the book is empty."""
    volumes: dict[str, int] = {}
    """Total volume ever traded, both sides, times 10^18."""


def assess(endpoint: str, access: "Access", markets: Sequence[Market]) -> dict[str, Evidence]:
    """
    Return what a node knows of markets before they are collected; nothing for a young chain.

    Raises:
        SourceError: If it does not answer, or a volume is no amount.

    """
    return _Assessor(endpoint, access).assess(markets)


class _Assessor:
    """Queries one endpoint for everything."""

    def __init__(self, endpoint: str, access: "Access") -> None:
        self._endpoint = endpoint
        self._access = access
        self._query: Any = INJECTIVE.package("injective.exchange.v2")

    def assess(self, markets: Sequence[Market]) -> dict[str, Evidence]:
        """Take both looks and compare them."""
        with self._access.open_blocking(self._endpoint) as channel:
            self._stub = INJECTIVE.stub("injective.exchange.v2.Query", channel)
            now = self._look(0)
            if now.height <= _MINUTE[0]:
                # A chain younger than a minute does not show how active its markets will be.
                return {}
            self._single_books(markets, now)
            minute = (self._past(now.height - ago) for ago in _MINUTE)
            before = next(filter(None, minute), None)
            day = (self._past(now.height - ago, tops=False) for ago in _SPANS)
            longest = next(filter(None, day), before)
        return {m.market_id: _evidence(m.market_id, now, before, longest) for m in markets}

    def _past(self, height: int, *, tops: bool = True) -> _Look | None:
        """Look at a height that the node may have pruned or never had."""
        try:
            return self._look(height, tops=tops) if height > 0 else None
        except SourceError as error:
            log.debug("no look at height %d: %s", height, error)
            return None

    def _look(self, height: int, *, tops: bool = True) -> _Look:
        query, stub, look = self._query, self._stub, _Look(height)
        for method, request in (
            (stub.FullSpotMarkets, query.QueryFullSpotMarketsRequest),
            (stub.DerivativeMarkets, query.QueryDerivativeMarketsRequest),
        ):
            if tops:
                asked = request(status="Active", with_mid_price_and_tob=True)
                response, look.height = self._ask(method, asked, height)
                look.tops |= dict(_top(full) for full in response.markets)
        try:
            response, _ = self._ask(
                stub.AggregateMarketVolumes, query.QueryAggregateMarketVolumesRequest(), height
            )
        except SourceError as error:
            # The node is too young or pruned: best prices must suffice.
            if height or error.status != "UNIMPLEMENTED":
                raise
            return look
        for one in response.volumes:
            look.volumes[one.market_id] = _volume(self._endpoint, one.volume)
        return look

    def _single_books(self, markets: Sequence[Market], look: _Look) -> None:
        """Query the books that batches omit."""
        left = [m for m in markets if m.status == "Active" and m.market_id not in look.tops]
        for market in left[:_SINGLE]:
            name = "SpotOrderbook" if market.type == "spot" else "DerivativeOrderbook"
            request = getattr(self._query, f"Query{name}Request")
            asked = request(market_id=market.market_id, limit=1)
            book, _ = self._ask(getattr(self._stub, name), asked, 0)
            sides = (book.buys_price_level, book.sells_price_level)
            look.tops[market.market_id] = tuple(side[0].p if side else "" for side in sides)

    def _ask(self, method: Any, request: Any, height: int) -> tuple[Any, int]:
        response, heard = self._access.blocking_query(
            self._endpoint,
            method,
            request,
            timeout_s=_TIMEOUT_S,
            metadata=((HEIGHT, str(height)),) if height else (),
        )
        return response, height_in(self._endpoint, heard, height)


def _top(full: Any) -> tuple[str, tuple[str, ...]]:
    top = full.mid_price_and_tob
    return full.market.market_id, (top.best_buy_price, top.best_sell_price)


def _volume(endpoint: str, volume: Any) -> int:
    sides = (volume.maker_volume, volume.taker_volume)
    return sum(int(amount_in(endpoint, "volume", side) or 0) for side in sides)


def _evidence(market_id: str, now: _Look, before: _Look | None, day: _Look | None) -> Evidence:
    """Compare the looks at one market."""
    top, traded = now.tops.get(market_id), now.volumes.get(market_id, 0)
    moved = None
    if before is not None:
        was = before.tops.get(market_id, top)
        moved = top != was or traded != before.volumes.get(market_id, 0)
        moved = moved or (False if now.height - before.height >= _LONG_ENOUGH else None)
    volume, blocks = None, 0
    if day is not None and now.volumes:
        volume = float(Fraction(traded - day.volumes.get(market_id, 0), _ONE))
        blocks = now.height - day.height
    return Evidence(any(top) if top is not None else None, moved, volume, blocks)
