"""
Decode CometBFT's ``block_results``: the record from which a lost block is replayed.

The chain stream is built from the events that the node stores with the block, in this order:
begin-block, each transaction's, end-block. Read in the same order they give the same trades, ids
included, and the same book updates. Two traps: every v2 event has a ``v1beta1`` twin, which must
not be counted, and byte fields are base64 here, while the stream prints hexadecimal or bech32.
"""

import base64
import functools
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import bech32
import msgspec

from shards.adapters.injective_chain import block_results_extras
from shards.protocol.errors import UNREADABLE, DecodeError
from shards.protocol.events import ZERO, Block, BookUpdate, Level, Trade

_SPOT: Final = "injective.exchange.v2.EventBatchSpotExecution"
_DERIVATIVE: Final = "injective.exchange.v2.EventBatchDerivativeExecution"
_BOOKS: Final = "injective.exchange.v2.EventOrderbookUpdate"


class _Attribute(msgspec.Struct):
    key: str
    value: str = ""


class _Event(msgspec.Struct):
    type: str
    attributes: list[_Attribute] = []


class _TxResult(msgspec.Struct):
    events: list[_Event] | None = None


class _Results(msgspec.Struct):
    height: Annotated[int, msgspec.Meta(ge=1, lt=1 << 62)]
    txs_results: list[_TxResult] | None = None
    finalize_block_events: list[_Event] | None = None


class _Error(msgspec.Struct):
    message: str = ""
    data: str = ""


class _Answer(msgspec.Struct):
    result: _Results | None = None
    error: _Error | None = None


class _Level(msgspec.Struct):
    p: str
    q: str = ZERO


class _Orderbook(msgspec.Struct):
    market_id: str
    buy_levels: list[_Level] | None = None
    sell_levels: list[_Level] | None = None


class _Update(msgspec.Struct):
    orderbook: _Orderbook
    seq: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)] = 0


class _PositionDelta(msgspec.Struct):
    execution_quantity: str = ZERO
    execution_price: str = ZERO
    execution_margin: str = ZERO


class _Fill(msgspec.Struct):
    subaccount_id: str = ""
    price: str = ZERO
    quantity: str = ZERO
    position_delta: _PositionDelta | None = None
    payout: str = ZERO
    fee: str = ZERO
    order_hash: str = ""
    fee_recipient_address: str = ""
    cid: str = ""


_answers: Final = msgspec.json.Decoder(_Answer, strict=False)
_updates: Final = msgspec.json.Decoder(list[_Update] | None, strict=False)
_fills: Final = msgspec.json.Decoder(list[_Fill] | None, strict=False)
_text: Final = msgspec.json.Decoder(str)
_bool: Final = msgspec.json.Decoder(bool)


def decode(payload: bytes, ts_event: int, *, with_extras: bool = False) -> Block:
    """
    Decode a ``block_results`` answer into the block that the stream would have sent.

    ``ts_event`` is the block's time in ns, which the answer does not contain. Orders and
    oracle prices are decoded only if requested.

    Raises:
        DecodeError: If the answer is an error or has another format.

    """
    try:
        answer = _answers.decode(payload)
        if answer.result is None:
            error = answer.error or _Error("no result")
            raise DecodeError("", f"block_results: {error.message} {error.data}".rstrip())
        result = answer.result
        begin, end = _by_mode(result.finalize_block_events or ())
        transactions = [e for tx in result.txs_results or () for e in tx.events or ()]
        return _block(result.height, ts_event, begin + transactions + end, with_extras)
    except (*UNREADABLE, KeyError) as error:
        raise DecodeError("", f"not a block_results answer: {error!r}") from None


def decode_raw(block: Any, *, with_extras: bool = False) -> Block:
    """
    Decode a parsed ``RawBlock`` of the event provider, which separates the phases.

    Raises:
        DecodeError: If its events have another format.

    """
    try:
        transactions = [event for tx in block.txs_results for event in tx.events]
        events = [*block.begin_block_events, *transactions, *block.end_block_events]
        return _block(block.height, block.block_timestamp * 1_000_000, events, with_extras)
    except (*UNREADABLE, KeyError) as error:
        raise DecodeError("", f"not a raw block: {error!r}") from None


def _block(height: int, ts_event: int, events: Sequence[Any], with_extras: bool) -> Block:
    """Rebuild a block from its events, in the order in which the node emitted them."""
    trades: list[tuple[str, Trade]] = []
    updates: list[BookUpdate] = []
    for event in events:
        if event.type not in (_SPOT, _DERIVATIVE, _BOOKS):
            continue
        attributes = {attribute.key: attribute.value for attribute in event.attributes}
        if event.type == _BOOKS:
            for key in ("spot_updates", "derivative_updates"):
                updates += [_update(update) for update in _updates.decode(attributes[key]) or ()]
        else:
            trades += _trades(attributes, height, len(trades))
    extras = block_results_extras.decode(events) if with_extras else None
    return Block(height, ts_event, trades, updates, True, extras)


def _by_mode(events: Iterable[_Event]) -> tuple[list[_Event], list[_Event]]:
    """Split a block's own events into begin-block and end-block."""
    begin: list[_Event] = []
    end: list[_Event] = []
    for event in events:
        mode = next((a.value for a in event.attributes if a.key == "mode"), "")
        (begin if mode == "BeginBlock" else end).append(event)
    return begin, end


def _trades(attributes: dict[str, str], height: int, count: int) -> list[tuple[str, Trade]]:
    """Decode one batch execution; ``count`` trades of the block precede it."""
    market_id = _text.decode(attributes["market_id"])
    side = "buy" if _bool.decode(attributes.get("is_buy", "false")) else "sell"
    execution_type = _text.decode(attributes.get("executionType", '""'))
    trades = []
    for n, fill in enumerate(_fills.decode(attributes.get("trades", "[]")) or (), start=count):
        delta = fill.position_delta
        trade = Trade(
            f"{height}_{n}",
            side,  # type: ignore[arg-type]
            delta.execution_price if delta else fill.price,
            delta.execution_quantity if delta else fill.quantity,
            fill.fee,
            execution_type,
            _hex(fill.order_hash),
            _hex(fill.subaccount_id),
            _address(fill.fee_recipient_address),
            fill.cid,
            delta.execution_margin if delta else "",
            fill.payout if delta else "",
        )
        trades.append((market_id, trade))
    return trades


def _update(update: _Update) -> BookUpdate:
    book = update.orderbook
    return BookUpdate(
        _hex(book.market_id), update.seq, _levels(book.buy_levels), _levels(book.sell_levels)
    )


def _levels(levels: list[_Level] | None) -> list[Level]:
    return [(level.p, level.q) for level in levels or ()]


def _hex(encoded: str) -> str:
    return "0x" + base64.b64decode(encoded).hex() if encoded else ""


@functools.lru_cache(maxsize=4096)
def _address(encoded: str) -> str:
    """Format an address in bech32, like the stream."""
    if not encoded:
        return ""
    words = bech32.convertbits(base64.b64decode(encoded), 8, 5)
    return bech32.bech32_encode("inj", words or [])
