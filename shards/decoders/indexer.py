"""
Decode the indexer's trades, given as parsed protobuf objects, into the chain's own form.

The indexer tells amounts as decimal text in the tokens' smallest units, execution types in
camelCase, and the same ``trade_id`` as the chain (its V2 calls do).
"""

import decimal
from typing import Any, Final

from shards.config import Market
from shards.events import Trade

# Wide enough for every amount: the default 28 digits would round some.
_exact: Final = decimal.Context(prec=78)
_UNIT: Final = decimal.Decimal(1).scaleb(-18)


def amount(text: str, places: int) -> str:
    """Shift an amount by powers of ten and write it as the chain does, with 18 decimals."""
    shifted = _exact.scaleb(_exact.create_decimal(text or "0"), places)
    return format(shifted.quantize(_UNIT, rounding=decimal.ROUND_DOWN, context=_exact), "f")


def spot_trade(message: Any, market: Market) -> Trade:
    """Decode an ``injective_spot_exchange_rpc.SpotTrade``."""
    base, quote = market.base_decimals, market.quote_decimals
    return Trade(
        message.trade_id,
        "buy" if message.trade_direction == "buy" else "sell",
        amount(message.price.price, base - quote),
        amount(message.price.quantity, -base),
        amount(message.fee, -quote),
        _execution_type(message.trade_execution_type),
        message.order_hash,
        message.subaccount_id,
        message.fee_recipient,
        message.cid,
    )


def derivative_trade(message: Any, market: Market) -> Trade:
    """Decode an ``injective_derivative_exchange_rpc.DerivativeTrade``."""
    quote = market.quote_decimals
    delta = message.position_delta
    return Trade(
        message.trade_id,
        "buy" if delta.trade_direction == "buy" else "sell",
        amount(delta.execution_price, -quote),
        amount(delta.execution_quantity, 0),
        amount(message.fee, -quote),
        _execution_type(message.trade_execution_type),
        message.order_hash,
        message.subaccount_id,
        message.fee_recipient,
        message.cid,
        amount(delta.execution_margin, -quote),
        amount(message.payout, -quote),
    )


def _execution_type(name: str) -> str:
    """``limitFill`` is the chain's ``LimitFill``."""
    return name[:1].upper() + name[1:]
