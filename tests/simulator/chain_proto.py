"""The chain's v2 queries as protobuf: markets by status, and order books. Amounts times 10^18."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, Final

from shards.adapters.messages import INJECTIVE
from shards.protocol.events import Level, Snapshot
from tests.simulator.amounts import ONE, scaled_text
from tests.simulator.exchange import Exchange
from tests.simulator.markets import SimMarket

QUOTE: Final = "peggy0xdAC17F958D2ee523a2206206994597C13D831ec7"
DEFAULT_LIMIT: Final = 20
_STATUSES: Final = {"Active": 1, "Paused": 2}
_FEES: Final = {
    "maker_fee_rate": str(-ONE // 10_000),
    "taker_fee_rate": str(ONE // 1_000),
    "relayer_fee_share_rate": str(ONE * 4 // 10),
}

query: Final[Any] = INJECTIVE.package("injective.exchange.v2")
_market: Final[Any] = INJECTIVE.package("injective.exchange.v2")


def _common(market: SimMarket) -> dict[str, Any]:
    return {
        "ticker": market.ticker,
        "quote_denom": QUOTE,
        "market_id": market.market_id,
        "status": _STATUSES[market.status],
        "min_price_tick_size": scaled_text(market.price(1)),
        "min_quantity_tick_size": scaled_text(market.quantity(1)),
        "min_notional": str(ONE),
        "quote_decimals": market.quote_decimals,
        **_FEES,
    }


def _selected(
    exchange: Exchange, kind: str, status: str, market_ids: Sequence[str] = ()
) -> list[SimMarket]:
    """Filter as the node does: no status is Active, and a word it does not know is nothing."""
    return [
        market
        for market in exchange.markets
        if market.type == kind
        and market.status == (status or "Active")
        and (not market_ids or market.market_id in market_ids)
    ]


def spot_markets(exchange: Exchange, request: Any) -> Any:
    """Answer ``SpotMarkets``."""
    return query.QuerySpotMarketsResponse(
        markets=[
            _market.SpotMarket(
                base_denom=f"peggy0x{market.market_id[2:42]}",
                base_decimals=market.kind.base_decimals,
                **_common(market),
            )
            for market in _selected(exchange, "spot", request.status, request.market_ids)
        ]
    )


def full_spot_markets(exchange: Exchange, request: Any, height: int) -> Any:
    """Answer ``FullSpotMarkets``: ``SpotMarkets`` with the best prices at a height."""
    bare = spot_markets(exchange, request)
    return query.QueryFullSpotMarketsResponse(
        markets=[
            query.FullSpotMarket(market=market, **_top(exchange, request, market.market_id, height))
            for market in bare.markets
        ]
    )


def _top(exchange: Exchange, request: Any, market_id: str, height: int) -> dict[str, Any]:
    """Give the best prices where they are asked for; a side that is empty has none."""
    if not request.with_mid_price_and_tob:
        return {}
    book = exchange.book_at(market_id, height)
    best = {
        name: scaled_text(side[0][0])
        for name, side in (("best_buy_price", book.bids), ("best_sell_price", book.asks))
        if side
    }
    if len(best) == 2:
        best["mid_price"] = str(sum(map(int, best.values())) // 2)
    return {"mid_price_and_tob": best}


def volumes(exchange: Exchange, request: Any, height: int) -> Any:
    """Answer ``AggregateMarketVolumes``: what was traded in the kept blocks up to a height."""
    traded: dict[str, list[Fraction]] = {}
    for number in range(exchange.oldest, height + 1):
        for market_id, trade in exchange.trades_of(number):
            volume = Fraction(trade.price) * Fraction(trade.quantity)
            traded.setdefault(market_id, []).append(volume)
    return query.QueryAggregateMarketVolumesResponse(
        volumes=[
            _market.MarketVolume(market_id=market_id, volume={"taker_volume": _amount(sum(each))})
            for market_id, each in traded.items()
            if not request.market_ids or market_id in request.market_ids
        ]
    )


def _amount(value: Fraction | int) -> str:
    return str(int(value * ONE))


def derivative_markets(exchange: Exchange, request: Any, height: int) -> Any:
    """Answer ``DerivativeMarkets``, with the best prices at a height where they are asked for."""
    return query.QueryDerivativeMarketsResponse(
        markets=[
            _full_derivative(market, _top(exchange, request, market.market_id, height))
            for market in _selected(exchange, "derivative", request.status, request.market_ids)
        ]
    )


def _full_derivative(market: SimMarket, top: dict[str, Any]) -> Any:
    mark = scaled_text(market.price(market.kind.mid))
    described = _market.DerivativeMarket(
        oracle_base=market.kind.base,
        oracle_quote=QUOTE,
        oracle_type="PriceFeed",
        initial_margin_ratio=str(ONE * 5 // 100),
        maintenance_margin_ratio=str(ONE * 2 // 100),
        reduce_margin_ratio=str(ONE * 8 // 100),
        isPerpetual=True,
        **_common(market),
    )
    perpetual = {
        "market_info": _market.PerpetualMarketInfo(
            market_id=market.market_id,
            hourly_funding_rate_cap="625000000000000",
            hourly_interest_rate="4166660000000",
            next_funding_timestamp=1_795_348_800,
            funding_interval=3_600,
        ),
        "funding_info": _market.PerpetualMarketFunding(cumulative_funding="0"),
    }
    return query.FullDerivativeMarket(
        market=described, perpetual_info=perpetual, mark_price=mark, **top
    )


def binary_markets(exchange: Exchange, request: Any) -> Any:
    """Answer ``BinaryOptionsMarkets``."""
    return query.QueryBinaryMarketsResponse(
        markets=[
            _market.BinaryOptionsMarket(
                oracle_symbol=market.kind.base,
                oracle_provider="simulator",
                oracle_type="Provider",
                expiration_timestamp=1_830_000_000,
                settlement_timestamp=1_830_086_400,
                admin="",
                **_common(market),
            )
            for market in _selected(exchange, "binary", request.status)
        ]
    )


def book_id(text: str) -> str:
    """Read a market id as the query does, which takes anything for a hash."""
    return "0x" + text.removeprefix("0x").lower()[-64:].rjust(64, "0")


def orderbook(response: Any, book: Snapshot | None, limit: int) -> Any:
    """Answer an order-book query; an unknown market has an empty book, not an error."""
    if book is None:
        return response()
    depth = limit or DEFAULT_LIMIT
    return response(
        buys_price_level=_levels(book.bids[:depth]),
        sells_price_level=_levels(book.asks[:depth]),
        seq=book.sequence,
    )


def _levels(levels: Iterable[Level]) -> list[dict[str, str]]:
    return [{"p": scaled_text(price), "q": scaled_text(quantity)} for price, quantity in levels]
