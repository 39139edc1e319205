"""
Decode the node's WebSocket, ``/injstream-ws``: JSON-RPC answers with chain-stream blocks.

The node's output (v1.18 to v1.20, CometBFT's JSON): 64-bit integers are strings; a list that was
not requested is ``[]``, one that was requested but has no match is absent; false booleans and
empty strings are absent; amounts are 18-decimal texts.
"""

from typing import Annotated, Final

import msgspec

from shards.protocol.errors import UNREADABLE, DecodeError
from shards.protocol.events import (
    ZERO,
    Block,
    BookUpdate,
    Confirmed,
    Level,
    Rejected,
    Trade,
    number_of,
)

_Height = Annotated[int, msgspec.Meta(ge=1, lt=1 << 62)]
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, lt=1 << 43)]
"""Range that fits into 64 bits as nanoseconds."""
_Sequence = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class _Level(msgspec.Struct, gc=False):
    p: str
    q: str = ZERO


class _Orderbook(msgspec.Struct, gc=False):
    market_id: str
    buy_levels: list[_Level] | None = None
    sell_levels: list[_Level] | None = None


class _BookUpdate(msgspec.Struct, gc=False):
    orderbook: _Orderbook
    seq: _Sequence = 0


class _SpotTrade(msgspec.Struct, gc=False):
    market_id: str
    trade_id: str
    quantity: str
    price: str
    executionType: str = ""
    is_buy: bool = False
    subaccount_id: str = ""
    fee: str = ZERO
    order_hash: str = ""
    fee_recipient_address: str = ""
    cid: str = ""


class _PositionDelta(msgspec.Struct, gc=False):
    execution_quantity: str
    execution_price: str
    execution_margin: str = ZERO


class _DerivativeTrade(msgspec.Struct, gc=False):
    market_id: str
    trade_id: str
    position_delta: _PositionDelta
    executionType: str = ""
    is_buy: bool = False
    subaccount_id: str = ""
    payout: str = ZERO
    fee: str = ZERO
    order_hash: str = ""
    fee_recipient_address: str = ""
    cid: str = ""


class _Block(msgspec.Struct, gc=False):
    block_height: _Height
    block_time: _Milliseconds
    spot_trades: list[_SpotTrade] | None = None
    derivative_trades: list[_DerivativeTrade] | None = None
    spot_orderbook_updates: list[_BookUpdate] | None = None
    derivative_orderbook_updates: list[_BookUpdate] | None = None


class _Error(msgspec.Struct, gc=False):
    code: int = 0
    message: str = ""
    data: str = ""


class _Message(msgspec.Struct, gc=False):
    id: int = -1
    result: _Block | str | None = None
    error: _Error | None = None


# Not strict: the node writes 64-bit integers as strings, and msgspec reads them in C.
_decode: Final = msgspec.json.Decoder(_Message, strict=False).decode
_NOTHING: Final[list[Level]] = []
# Shared and never modified.
_NO_TRADES: Final[list[tuple[str, Trade]]] = []
_NO_UPDATES: Final[list[BookUpdate]] = []
_CONFIRMED: Final = Confirmed()
_as_pair: Final = msgspec.structs.astuple
"""A level's fields in order, in C: half the cost of a comprehension."""


def decode(
    payload: bytes | memoryview, subscription: int = 0
) -> tuple[int, Block | Confirmed | Rejected]:
    """
    Decode one WebSocket message: ``(request id, content)``; the message's own id is used.

    The id is -1 if the node lost it (malformed JSON from us, a panic in the node).

    Raises:
        DecodeError: If the payload violates the node's format.

    """
    try:
        message = _decode(payload)
    # A truncated escape or an invalid byte in a string raises UnicodeDecodeError; endlessly
    # nested lists raise RecursionError.
    except UNREADABLE as error:
        raise DecodeError("", f"not a chain-stream message: {error}") from None
    result = message.result
    if type(result) is _Block:
        return message.id, _block(result)
    failure = message.error
    if failure is not None:
        return message.id, Rejected(failure.code, failure.data or failure.message)
    if result == "success":
        return message.id, _CONFIRMED
    raise DecodeError("", f"neither a block nor an answer: {bytes(payload[:80])!r}")


def _block(block: _Block) -> Block:
    spot, derivative = block.spot_orderbook_updates, block.derivative_orderbook_updates
    updates = _NO_UPDATES
    if spot:
        updates = [_update(update) for update in spot]
    if derivative:
        updates = [*updates, *map(_update, derivative)]
    trades = _NO_TRADES
    if block.spot_trades or block.derivative_trades:
        trades = _trades(block)
    # Most blocks of a one-market subscription are empty and must cost next to nothing.
    return Block(block.block_height, block.block_time * 1_000_000, trades, updates)


def _trades(block: _Block) -> list[tuple[str, Trade]]:
    spot, derivative = block.spot_trades or (), block.derivative_trades or ()
    trades = [(trade.market_id, _spot(trade)) for trade in spot]
    trades += [(trade.market_id, _derivative(trade)) for trade in derivative]
    # The node collects them in a map, so their order is random.
    trades.sort(key=_number)
    return trades


def _number(of_market: tuple[str, Trade]) -> int:
    market_id, trade = of_market
    try:
        return number_of(trade)
    except ValueError:
        reason = f"trade id {trade.trade_id[:40]!r} does not end in a number"
        raise DecodeError(market_id, reason) from None


def _update(update: _BookUpdate) -> BookUpdate:
    book = update.orderbook
    bids, asks = book.buy_levels, book.sell_levels
    return BookUpdate(
        book.market_id,
        update.seq,
        [*map(_as_pair, bids)] if bids else _NOTHING,
        [*map(_as_pair, asks)] if asks else _NOTHING,
    )


def _spot(trade: _SpotTrade) -> Trade:
    return Trade(
        trade.trade_id,
        "buy" if trade.is_buy else "sell",
        trade.price,
        trade.quantity,
        trade.fee,
        trade.executionType,
        trade.order_hash,
        trade.subaccount_id,
        trade.fee_recipient_address,
        trade.cid,
    )


def _derivative(trade: _DerivativeTrade) -> Trade:
    delta = trade.position_delta
    return Trade(
        trade.trade_id,
        "buy" if trade.is_buy else "sell",
        delta.execution_price,
        delta.execution_quantity,
        trade.fee,
        trade.executionType,
        trade.order_hash,
        trade.subaccount_id,
        trade.fee_recipient_address,
        trade.cid,
        delta.execution_margin,
        trade.payout,
    )
