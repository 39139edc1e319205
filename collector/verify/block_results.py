"""
The trades of one block, read from CometBFT's ``block_results``.

The events count in the order in which the node makes them: begin-block, each
transaction's, end-block. ``trade_id`` is ``{height}_{n}``, n counting all trades of the
block. Each v2 event has a v1beta1 twin, which does not count.
"""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from collector.verify.amounts import address, amount, hexadecimal

_SPOT: Final = "injective.exchange.v2.EventBatchSpotExecution"
_DERIVATIVE: Final = "injective.exchange.v2.EventBatchDerivativeExecution"

FIELDS: Final = (
    *("trade_id", "side", "price", "quantity", "fee", "execution_type"),
    *("order_hash", "subaccount_id", "fee_recipient", "cid", "margin", "payout"),
)
"""A trade's fields in the order of its frame."""


class ChainTrade(NamedTuple):
    """One trade as it should have been published; `fields` are those of FIELDS."""

    market_id: str
    fields: tuple[str, ...]

    @property
    def trade_id(self) -> str:
        """``{height}_{n}``."""
        return self.fields[0]


def trades(result: dict[str, Any]) -> list[ChainTrade]:
    """
    List the trades of a ``block_results`` result, in the chain's order.

    Raises:
        ValueError, KeyError: If it is not of this format.

    """
    height = int(result["height"])
    found: list[ChainTrade] = []
    for event in _executions(result):
        attributes = {a["key"]: a.get("value") or "null" for a in event["attributes"]}
        is_buy = json.loads(attributes.get("is_buy", "false"))
        kind = json.loads(attributes.get("executionType", '""'))
        market_id = json.loads(attributes["market_id"])
        for fill in json.loads(attributes.get("trades", "[]")) or ():
            spell = _spot if event["type"] == _SPOT else _derivative
            price, quantity, margin, payout = spell(fill)
            identity = (f"{height}_{len(found)}", "buy" if is_buy else "sell")
            money = (price, quantity, amount(fill.get("fee", "0")))
            fields = (*identity, *money, kind, *_owner(fill), margin, payout)
            found.append(ChainTrade(market_id, fields))
    return found


def _executions(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    def counts(event: dict[str, Any]) -> bool:
        return event["type"] in (_SPOT, _DERIVATIVE)

    def begins(event: dict[str, Any]) -> bool:
        return any(a["key"] == "mode" and a["value"] == "BeginBlock" for a in event["attributes"])

    of_block = [event for event in result.get("finalize_block_events") or () if counts(event)]
    yield from (event for event in of_block if begins(event))
    for transaction in result.get("txs_results") or ():
        yield from (event for event in transaction.get("events") or () if counts(event))
    yield from (event for event in of_block if not begins(event))


def _spot(fill: dict[str, Any]) -> tuple[str, str, str, str]:
    return amount(fill.get("price", "0")), amount(fill.get("quantity", "0")), "", ""


def _derivative(fill: dict[str, Any]) -> tuple[str, str, str, str]:
    delta = fill.get("position_delta") or {}
    price, quantity, margin = (
        amount(delta.get(f"execution_{name}", "0")) for name in ("price", "quantity", "margin")
    )
    return price, quantity, margin, amount(fill.get("payout", "0"))


def _owner(fill: dict[str, Any]) -> tuple[str, str, str, str]:
    return (
        hexadecimal(fill.get("order_hash", "")),
        hexadecimal(fill.get("subaccount_id", "")),
        address(fill.get("fee_recipient_address", "")),
        fill.get("cid", ""),
    )
