"""
``block_results`` and its companions, as CometBFT's RPC of injectived v1.20.1 prints them.

A block's market data is in its events: attribute values are JSON texts, bytes are base64,
and every v2 event has a ``v1beta1`` twin in token units that must not be counted.
"""

import base64
import datetime
import hashlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from shards.protocol.events import BookUpdate, Level, Trade
from tests.simulator.amounts import shifted
from tests.simulator.exchange import SimBlock
from tests.simulator.markets import Markets, SimMarket
from tests.simulator.trading import Execution, address_bytes

_V2: Final = "injective.exchange.v2."
_V1: Final = "injective.exchange.v1beta1."
_MODES: Final = {"begin": "BeginBlock", "end": "EndBlock"}

Event = dict[str, Any]


def block_results(markets: Markets, block: SimBlock) -> dict[str, Any]:
    """Return the ``result`` of ``block_results``."""
    events = Events(markets, block)
    transactions = list(events.executions("tx"))
    return {
        "height": str(block.height),
        "txs_results": [_transaction(transactions)] if transactions else None,
        "finalize_block_events": [
            _event("txfees", {"basefee": "160000000.000000000000000000", "mode": "BeginBlock"}),
            _event("coin_received", {"receiver": "inj1…", "amount": "", "mode": "BeginBlock"}),
            *events.executions("begin"),
            *events.executions("end"),
            *events.books(),
            _event("block_bloom", {"bloom": "", "mode": "EndBlock"}),
        ],
        "validator_updates": None,
        "consensus_param_updates": {"block": {"max_bytes": "4194304", "max_gas": "-1"}},
        "app_hash": base64.b64encode(_hash(block.height, "app")).decode(),
    }


def _transaction(events: list[Event]) -> dict[str, Any]:
    return {
        "code": 0,
        "data": "",
        "log": "",
        "info": "",
        "gas_wanted": "2000000000",
        "gas_used": "97927",
        "events": [_event("tx", {"acc_seq": "inj1…/35"}), *events],
        "codespace": "",
    }


def _event(name: str, attributes: dict[str, str]) -> Event:
    return {
        "type": name,
        "attributes": [
            {"key": key, "value": value, "index": True} for key, value in attributes.items()
        ],
    }


class Events:
    """The exchange's events of one block, each followed by its twin."""

    def __init__(self, markets: Markets, block: SimBlock) -> None:
        self._markets = markets
        self._block = block

    def executions(self, where: str) -> Iterator[Event]:
        """Give the batch executions of one phase, in the order of their trades."""
        for execution in self._block.executions:
            if execution.where == where:
                market = self._markets[execution.market_id]
                yield _execution(_V2, execution, market, legacy=False)
                yield _execution(_V1, execution, market, legacy=True)

    def books(self) -> Iterator[Event]:
        """Give the book updates, if there are any."""
        if self._block.updates:
            yield self._updates(_V2, legacy=False)
            yield self._updates(_V1, legacy=True)

    def _updates(self, version: str, *, legacy: bool) -> Event:
        lists: dict[str, list[Any]] = {"derivative_updates": [], "spot_updates": []}
        for update in self._block.updates:
            market = self._markets[update.market_id]
            name = "spot_updates" if market.is_spot else "derivative_updates"
            lists[name].append(_update(update, market, legacy=legacy))
        attributes = {name: _json(found) for name, found in lists.items()}
        return _event(version + "EventOrderbookUpdate", attributes | {"mode": "EndBlock"})


def _execution(version: str, execution: Execution, market: SimMarket, *, legacy: bool) -> Event:
    zero = '"0.000000000000000000"'
    attributes = {} if market.is_spot else {"cumulative_funding": zero}
    attributes["executionType"] = f'"{execution.execution_type}"'
    attributes["is_buy"] = "true" if execution.side == "buy" else "false"
    if not market.is_spot:
        attributes["is_liquidation"] = "false"
    attributes["market_id"] = f'"{market.market_id}"'
    shifts = (market.price_shift, market.quantity_shift) if legacy else (0, 0)
    fill = _spot_fill if market.is_spot else _derivative_fill
    quote = market.quote_decimals if legacy else 0
    attributes["trades"] = _json([fill(trade, *shifts, quote) for trade in execution.trades])
    if execution.where == "tx":
        attributes["msg_index"] = "0"
    else:
        attributes["mode"] = _MODES[execution.where]
    kind = "Spot" if market.is_spot else "Derivative"
    return _event(f"{version}EventBatch{kind}Execution", attributes)


def _spot_fill(trade: Trade, price: int, quantity: int, quote: int) -> dict[str, Any]:
    return {
        "quantity": shifted(trade.quantity, quantity),
        "price": shifted(trade.price, price),
        "subaccount_id": _base64(trade.subaccount_id),
        "fee": shifted(trade.fee, quote),
    } | _identity(trade)


def _derivative_fill(trade: Trade, price: int, quantity: int, quote: int) -> dict[str, Any]:
    delta = {
        "is_long": trade.side == "buy",
        "execution_quantity": shifted(trade.quantity, quantity),
        "execution_margin": shifted(trade.margin, quote),
        "execution_price": shifted(trade.price, price),
    }
    return {
        "subaccount_id": _base64(trade.subaccount_id),
        "position_delta": delta,
        "payout": shifted(trade.payout, quote),
        "fee": shifted(trade.fee, quote),
        **_identity(trade),
        "pnl": "0.000000000000000000",
    }


def _identity(trade: Trade) -> dict[str, Any]:
    return {
        "order_hash": _base64(trade.order_hash),
        "fee_recipient_address": base64.b64encode(address_bytes(trade.fee_recipient)).decode(),
        "cid": trade.cid,
    }


def _update(update: BookUpdate, market: SimMarket, *, legacy: bool) -> dict[str, Any]:
    by = (market.price_shift, market.quantity_shift) if legacy else (0, 0)
    book = {
        "market_id": _base64(update.market_id),
        "buy_levels": _levels(update.bids, *by),
        "sell_levels": _levels(update.asks, *by),
    }
    return {"seq": str(update.sequence), "orderbook": book}


class _Levels:
    """
    Levels as JSON, those of a shared change rendered once.

    A shard that has thousands of blocks again must not wait for the node that has them.
    """

    _KEPT: Final = 10_000

    def __init__(self) -> None:
        # By identity; the list is kept too, so that no other can take its place in memory.
        self._made: dict[tuple[int, int, int], tuple[list[Level], msgspec.Raw]] = {}

    def __call__(self, side: list[Level], price: int, quantity: int) -> msgspec.Raw:
        """Return the levels, their texts moved by so many decimals."""
        key = id(side), price, quantity
        known = self._made.get(key)
        if known is None:
            if len(self._made) >= self._KEPT:
                self._made.clear()
            levels = [{"p": shifted(p, price), "q": shifted(q, quantity)} for p, q in side]
            known = self._made[key] = side, msgspec.Raw(msgspec.json.encode(levels))
        return known[1]


_levels: Final = _Levels()


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal[2:])).decode()


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _hash(height: int, what: str) -> bytes:
    return hashlib.sha256(f"{what} {height}".encode()).digest()


def hash_text(height: int, what: str) -> str:
    """Make a hash of something of a block, as CometBFT prints them."""
    return _hash(height, what).hex().upper()


def time_text(time_ms: int) -> str:
    """Spell a header's time: RFC 3339 to the nanosecond, without trailing zeros."""
    whole = datetime.datetime.fromtimestamp(time_ms // 1000, datetime.UTC)
    fraction = f"{time_ms % 1000:03d}{time_ms * 7919 % 1_000_000:06d}".rstrip("0")
    return f"{whole:%Y-%m-%dT%H:%M:%S}{'.' + fraction if fraction else ''}Z"
