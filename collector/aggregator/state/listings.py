"""How the chain lists our markets, as far as it was published. Pure."""

from collections.abc import Iterable

from shards.protocol.events import Metadata
from shards.protocol.settings import Market


class Listings:
    """Finds what to publish about each market: everything at first, then changes."""

    def __init__(self) -> None:
        self._published: dict[str, Market] = {}
        self._number = 0
        """Number of the newest event."""

    def start_over(self) -> None:
        """Publish everything again; the numbers continue."""
        self._published.clear()

    def changed(self, markets: Iterable[Market], ts: int) -> list[tuple[int, Metadata]]:
        """Return the changed listings of these markets, numbered, and count them as published."""
        events = []
        for market in markets:
            if market.type != "chain" and self._published.get(market.market_id) != market:
                self._published[market.market_id] = market
                self._number += 1
                events.append((self._number, _metadata(market, ts)))
        return events


def _metadata(market: Market, ts: int) -> Metadata:
    return Metadata(
        market_id=market.market_id,
        ts=ts,
        ticker=market.ticker,
        symbol=market.symbol,
        type=market.type,
        status=market.status,
        base_denom=market.base_denom,
        quote_denom=market.quote_denom,
        base_decimals=market.base_decimals,
        quote_decimals=market.quote_decimals,
        price_tick=market.price_tick,
        quantity_tick=market.quantity_tick,
        min_notional=market.min_notional,
        maker_fee_rate=market.maker_fee_rate,
        taker_fee_rate=market.taker_fee_rate,
        oracle_type=market.oracle_type,
        oracle_base=market.oracle_base,
        oracle_quote=market.oracle_quote,
    )
