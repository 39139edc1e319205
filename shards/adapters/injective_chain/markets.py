"""List the chain's markets: spot, derivative and binary, by the v2 queries."""

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from shards.adapters.injective_chain.amounts import amount_in
from shards.adapters.injective_chain.grpc_decoder import decimal_text
from shards.adapters.messages import INJECTIVE
from shards.net.nodes import CANNOT_TELL
from shards.protocol.errors import SourceError
from shards.protocol.settings import Market, MarketType

if TYPE_CHECKING:
    from shards.net.access import Access

_STATUSES: Final = ("Active", "Paused")
"""Capitalised: for any other spelling the chain returns an empty list, not an error."""
_TIMEOUT_S: Final = 5.0


def network(endpoint: str, access: "Access") -> str:
    """
    Return the id of a server's network; empty if the server does not know the question.

    Raises:
        SourceError: If it does not answer.

    """
    service = "cosmos.base.tendermint.v1beta1"
    request = INJECTIVE.message(f"{service}.GetNodeInfoRequest")()
    with access.open_blocking(endpoint) as channel:
        stub = INJECTIVE.stub(f"{service}.Service", channel)
        try:
            answer, _ = access.blocking_query(
                endpoint, stub.GetNodeInfo, request, timeout_s=_TIMEOUT_S
            )
        except SourceError as error:
            if error.status in CANNOT_TELL:
                return ""
            raise
    return str(answer.default_node_info.network)


def list_markets(endpoint: str, access: "Access") -> Iterator[Market]:
    """
    Yield all markets of the chain, without symbols.

    Raises:
        SourceError: If a query fails, or an amount in its answer is none.

    """
    query: Any = INJECTIVE.package("injective.exchange.v2")
    with access.open_blocking(endpoint) as channel:
        stub = INJECTIVE.stub("injective.exchange.v2.Query", channel)
        ask = functools.partial(access.blocking_query, endpoint, timeout_s=_TIMEOUT_S)
        for status in _STATUSES:
            spot, _ = ask(stub.SpotMarkets, query.QuerySpotMarketsRequest(status=status))
            yield from (_known(endpoint, "spot", market, status) for market in spot.markets)
            derivative, _ = ask(
                stub.DerivativeMarkets, query.QueryDerivativeMarketsRequest(status=status)
            )
            found = (full.market for full in derivative.markets)
            yield from (_known(endpoint, "derivative", market, status) for market in found)
            binary, _ = ask(
                stub.BinaryOptionsMarkets, query.QueryBinaryMarketsRequest(status=status)
            )
            yield from (_known(endpoint, "binary", market, status) for market in binary.markets)


def _known(endpoint: str, kind: MarketType, market: Any, status: str) -> Market:
    """Convert a market, unless it has not changed since the last listing."""
    return _converted(endpoint, kind, market.SerializeToString(), status)


@functools.lru_cache(maxsize=8_192)
def _converted(endpoint: str, kind: MarketType, encoded: bytes, status: str) -> Market:
    message, convert = _KINDS[kind]
    market = INJECTIVE.message(f"injective.exchange.v2.{message}")()
    market.ParseFromString(encoded)
    return convert(endpoint, market, status)


def _spot(endpoint: str, market: Any, status: str) -> Market:
    named = _market(endpoint, market, "spot", status)
    return msgspec.structs.replace(
        named, base_decimals=market.base_decimals, base_denom=market.base_denom
    )


def _derivative(endpoint: str, market: Any, status: str) -> Market:
    return msgspec.structs.replace(
        _market(endpoint, market, "derivative", status),
        oracle_type=_oracle_name(market.oracle_type),
        oracle_base=market.oracle_base,
        oracle_quote=market.oracle_quote,
    )


def _binary(endpoint: str, market: Any, status: str) -> Market:
    return msgspec.structs.replace(
        _market(endpoint, market, "binary", status),
        oracle_type=_oracle_name(market.oracle_type),
        oracle_base=market.oracle_symbol,
        oracle_quote=market.oracle_provider,
    )


_KINDS: Final[dict[str, tuple[str, Callable[[str, Any, str], Market]]]] = {
    "spot": ("SpotMarket", _spot),
    "derivative": ("DerivativeMarket", _derivative),
    "binary": ("BinaryOptionsMarket", _binary),
}
"""By type, the name of the message and what converts it."""


def _market(endpoint: str, market: Any, kind: MarketType, status: str) -> Market:
    """Convert what all types of markets have."""

    def amount(name: str) -> str:
        return decimal_text(amount_in(endpoint, name, getattr(market, name)))

    return Market(
        market.market_id,
        market.ticker,
        "",
        kind,
        status,
        quote_decimals=market.quote_decimals,
        price_tick=amount("min_price_tick_size"),
        quantity_tick=amount("min_quantity_tick_size"),
        quote_denom=market.quote_denom,
        min_notional=amount("min_notional"),
        maker_fee_rate=amount("maker_fee_rate"),
        taker_fee_rate=amount("taker_fee_rate"),
    )


def _oracle_name(number: int) -> str:
    """Return an oracle type's name as the chain spells it; unknown ones as their number."""
    return INJECTIVE.enum("injective.oracle.v1beta1.OracleType").get(number, str(number))
