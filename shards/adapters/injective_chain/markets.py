"""List the chain's markets: spot, derivative and binary, by the v2 queries."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from google.protobuf.message import DecodeError

from shards.adapters.injective_chain.amounts import amount_in
from shards.adapters.injective_chain.grpc_decoder import decimal_text
from shards.adapters.injective_chain.heights import height_in
from shards.adapters.interface import MarketList
from shards.adapters.messages import INJECTIVE
from shards.net.nodes import CANNOT_TELL
from shards.protocol.errors import SourceError
from shards.protocol.settings import Market, MarketType

if TYPE_CHECKING:
    from shards.net.access import Access

_STATUSES: Final = ("Active", "Paused")
"""Capitalised: for any other spelling the chain returns an empty list, not an error."""
_TIMEOUT_S: Final = 5.0
_PACKAGE: Final = "injective.exchange.v2"
_QUERY: Final = f"{_PACKAGE}.Query"
_LISTS: Final[dict[MarketType, tuple[str, str]]] = {
    "spot": ("SpotMarkets", "QuerySpotMarkets"),
    "derivative": ("DerivativeMarkets", "QueryDerivativeMarkets"),
    "binary": ("BinaryOptionsMarkets", "QueryBinaryMarkets"),
}
"""By type, the query that lists its markets, and how the names of its messages begin."""


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


def list_markets(endpoint: str, access: "Access") -> MarketList:
    """
    Return all markets of the chain, as of the oldest of the answers.

    Raises:
        SourceError: If a query fails, or an amount in its answer is none.

    """
    found: list[Market] = []
    heights: list[int] = []
    with access.open_blocking(endpoint) as channel:
        stub = INJECTIVE.stub(_QUERY, channel)
        for status in _STATUSES:
            for kind, (name, message) in _LISTS.items():
                request = INJECTIVE.message(f"{_PACKAGE}.{message}Request")(status=status)
                answer, answered = access.blocking_query(
                    endpoint, stub.raw(name), request, timeout_s=_TIMEOUT_S
                )
                heights.append(height_in(endpoint, answered))
                found += decoded(endpoint, kind, answer, status)
    return MarketList(found, min(heights))


@functools.lru_cache(maxsize=12)
def decoded(endpoint: str, kind: MarketType, answer: bytes, status: str) -> tuple[Market, ...]:
    """
    Decode the answer to one of the queries, unless it is as it was at the last listing.

    Raises:
        SourceError: If it cannot be decoded, or an amount in it is none.

    """
    message = INJECTIVE.message(f"{_PACKAGE}.{_LISTS[kind][1]}Response")()
    try:
        message.ParseFromString(answer)
    except DecodeError as error:
        raise SourceError(endpoint, f"its list of markets cannot be decoded: {error}") from None
    listed = message.markets
    # A derivative comes with its price and its funding, which change all the time.
    markets = (full.market for full in listed) if kind == "derivative" else listed
    return tuple(
        _converted(endpoint, kind, market.SerializeToString(), status) for market in markets
    )


@functools.lru_cache(maxsize=8_192)
def _converted(endpoint: str, kind: MarketType, encoded: bytes, status: str) -> Market:
    message, convert = _KINDS[kind]
    market = INJECTIVE.message(f"{_PACKAGE}.{message}")()
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
