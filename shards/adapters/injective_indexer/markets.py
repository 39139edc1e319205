"""List the markets through the indexer, if no chain endpoint is configured."""

import functools
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from shards.adapters.injective_indexer.decoder import amount
from shards.adapters.interface import MarketList
from shards.adapters.messages import INJECTIVE
from shards.protocol.errors import SourceError
from shards.protocol.settings import Market, MarketType
from shards.protocol.text import printable

if TYPE_CHECKING:
    from shards.net.access import Access

log = logging.getLogger(__name__)

_STATUSES: Final = ("active", "paused")
"""Lower case here; the chain capitalises them."""
_TIMEOUT_S: Final = 5.0
_PAGE: Final = 100
_DECIMALS: Final = 255
"""Most decimals of a token; who creates one may state any number."""


def list_markets(endpoint: str, access: "Access") -> MarketList:
    """
    Return all markets of an indexer, whose answers name no block.

    Raises:
        SourceError: If a query fails, or an amount in its answer is none.

    """
    with access.open_blocking(endpoint) as channel:
        query = functools.partial(access.blocking_query, endpoint, timeout_s=_TIMEOUT_S)
        spot = _spot(endpoint, query, channel)
        return MarketList([*spot, *_derivatives(endpoint, query, channel)])


def service(channel: Any, name: str) -> tuple[Any, Any]:
    """Return the messages and the stub of a service."""
    package = f"injective_{name}_exchange_rpc"
    stub = INJECTIVE.stub(f"{package}.Injective{name.title()}ExchangeRPC", channel)
    return INJECTIVE.package(package), stub


def _spot(endpoint: str, query: Callable[..., Any], channel: Any) -> Iterator[Market]:
    messages, stub = service(channel, "spot")
    for status in _STATUSES:
        answer, _ = query(stub.Markets, messages.MarketsRequest(market_status=status))
        for market in answer.markets:
            if _knows(market, "base_token_meta") and _knows(market, "quote_token_meta"):
                yield _checked(endpoint, market, "spot", status)
            else:
                _leave_out(market)


def _derivatives(endpoint: str, query: Callable[..., Any], channel: Any) -> Iterator[Market]:
    messages, stub = service(channel, "derivative")
    for status in _STATUSES:
        answer, _ = query(stub.Markets, messages.MarketsRequest(market_status=status))
        yield from _quoted(endpoint, answer.markets, "derivative", status)
        skip = 0
        while True:
            request = messages.BinaryOptionsMarketsRequest(
                market_status=status, skip=skip, limit=_PAGE
            )
            answer, _ = query(stub.BinaryOptionsMarkets, request)
            yield from _quoted(endpoint, answer.markets, "binary", status)
            skip += len(answer.markets)
            if not answer.markets or skip >= answer.paging.total:
                break


def _quoted(endpoint: str, markets: Any, kind: MarketType, status: str) -> Iterator[Market]:
    for market in markets:
        if _knows(market, "quote_token_meta"):
            yield _checked(endpoint, market, kind, status)
        else:
            _leave_out(market)


def _knows(market: Any, token: str) -> bool:
    """Whether the indexer has a token's decimals."""
    return bool(market.HasField(token)) and 0 <= getattr(market, token).decimals <= _DECIMALS


def _leave_out(market: Any) -> None:
    log.warning(
        "%s (%s) is left out: the indexer does not know its tokens, so its amounts mean nothing; "
        "with a chain_grpc endpoint configured it can be collected",
        market.ticker,
        market.market_id,
    )


def _checked(endpoint: str, market: Any, kind: MarketType, status: str) -> Market:
    """Convert a listed market, or blame the endpoint for an amount that is none."""
    base = market.base_token_meta.decimals if kind == "spot" else 0
    try:
        return _market(market, kind, status, base, market.quote_token_meta.decimals)
    except (ArithmeticError, ValueError) as error:
        name = printable(market.market_id, 80)
        raise SourceError(endpoint, f"market {name} as listed: {error}") from None


def _market(market: Any, kind: MarketType, status: str, base: int, quote: int) -> Market:
    """Convert a listed market; fields that its type lacks are empty."""
    oracle_base = "oracle_symbol" if kind == "binary" else "oracle_base"
    oracle_quote = "oracle_provider" if kind == "binary" else "oracle_quote"
    return Market(
        market_id=market.market_id,
        ticker=market.ticker,
        symbol="",
        type=kind,
        status=status.capitalize(),
        base_decimals=base,
        quote_decimals=quote,
        price_tick=amount(market.min_price_tick_size, base - quote),
        quantity_tick=amount(market.min_quantity_tick_size, -base),
        base_denom=getattr(market, "base_denom", ""),
        quote_denom=market.quote_denom,
        min_notional=amount(market.min_notional, -quote),
        maker_fee_rate=amount(market.maker_fee_rate, 0),
        taker_fee_rate=amount(market.taker_fee_rate, 0),
        oracle_type=getattr(market, "oracle_type", ""),
        oracle_base=getattr(market, oracle_base, ""),
        oracle_quote=getattr(market, oracle_quote, ""),
    )
