"""
Decode a WebSocket block's optional events: orders and oracle prices.

A second pass over the same payload, only if these channels are collected, so that books and trades
(ws_decoder.py) do not pay for it.
"""

from typing import Final

import msgspec

from shards.adapters.injective_chain import order_fields, ws_decoder
from shards.protocol.errors import UNREADABLE, DecodeError
from shards.protocol.events import (
    Block,
    Confirmed,
    OptionalEvents,
    Order,
    Price,
    Rejected,
    in_order,
)


class OrderInfo(msgspec.Struct, gc=False):
    """The part that all orders share, in the stream and in the events."""

    price: str
    quantity: str
    subaccount_id: str = ""
    fee_recipient: str = ""
    cid: str = ""


class _LimitOrder(msgspec.Struct, gc=False):
    order_info: OrderInfo
    fillable: str
    order_type: int = 0
    trigger_price: str | None = None
    margin: str = ""


class _OfMarket(msgspec.Struct, gc=False):
    market_id: str
    order: _LimitOrder


class _OrderUpdate(msgspec.Struct, gc=False):
    order_hash: str
    order: _OfMarket
    status: int = 0


class _OraclePrice(msgspec.Struct, gc=False):
    price: str
    symbol: str = ""
    type: str = ""


class _Block(msgspec.Struct, gc=False):
    spot_orders: list[_OrderUpdate] | None = None
    derivative_orders: list[_OrderUpdate] | None = None
    oracle_prices: list[_OraclePrice] | None = None


class _Message(msgspec.Struct, gc=False):
    result: _Block | None = None


_decode: Final = msgspec.json.Decoder(_Message, strict=False).decode


def decode(
    payload: bytes | memoryview, subscription: int = 0
) -> tuple[int, Block | Confirmed | Rejected]:
    """
    Decode one WebSocket message with all requested events.

    Raises:
        DecodeError: If the payload violates the node's format.

    """
    request_id, message = ws_decoder.decode(payload)
    if type(message) is not Block:
        return request_id, message
    try:
        found = _decode(payload).result
    except UNREADABLE as error:
        raise DecodeError("", f"not a chain-stream message: {error}") from None
    if found is None or not (found.spot_orders or found.derivative_orders or found.oracle_prices):
        return request_id, message
    updates = [*(found.spot_orders or ()), *(found.derivative_orders or ())]
    extras = OptionalEvents(
        orders=sorted(map(_order, updates), key=in_order),
        prices=[(said.symbol, Price(said.type, said.price)) for said in found.oracle_prices or ()],
    )
    return request_id, msgspec.structs.replace(message, extras=extras)


def _order(update: _OrderUpdate) -> tuple[str, Order]:
    said = update.order.order
    order_type = order_fields.type_name(said.order_type)
    status = order_fields.status_name(update.status)
    return update.order.market_id, order_fields.order(update.order_hash, status, order_type, said)
