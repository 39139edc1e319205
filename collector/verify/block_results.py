"""
The trades and book changes of one block, read from CometBFT's ``block_results``.

Events count in the order in which the node emits them: begin-block, each transaction's,
end-block. ``trade_id`` is ``{height}_{n}``, where n numbers all trades of the block. Each v2 event
has a v1beta1 twin, which does not count.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from collector.verify.amounts import address, amount, hexadecimal

_SPOT: Final = "injective.exchange.v2.EventBatchSpotExecution"
_DERIVATIVE: Final = "injective.exchange.v2.EventBatchDerivativeExecution"
_BOOKS: Final = "injective.exchange.v2.EventOrderbookUpdate"

Sides: TypeAlias = tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]
"""Changed bids and asks, ``(price, quantity)``; quantity 0 removes a level."""

FIELDS: Final = (
    *("trade_id", "side", "price", "quantity", "fee", "execution_type"),
    *("order_hash", "subaccount_id", "fee_recipient", "cid", "margin", "payout"),
)
"""A trade's fields in the order of its frame."""


class ChainTrade(NamedTuple):
    """One trade as it should have been published; `fields` are in the order of FIELDS."""

    market_id: str
    fields: tuple[str, ...]

    @property
    def trade_id(self) -> str:
        """``{height}_{n}``."""
        return self.fields[0]


def trades(result: dict[str, Any]) -> list[ChainTrade]:
    """
    Return the trades in a ``block_results`` result, in the chain's order.

    Raises:
        ValueError, KeyError: If it has another format.

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


def changes(result: dict[str, Any]) -> dict[tuple[str, int], Sides]:
    """
    Return the book changes in a ``block_results`` result, by market id and sequence.

    Raises:
        ValueError, KeyError: If it has another format.

    """
    events = [*(result.get("finalize_block_events") or ())]
    for transaction in result.get("txs_results") or ():
        events += transaction.get("events") or ()
    found: dict[tuple[str, int], Sides] = {}
    for event in events:
        if event["type"] != _BOOKS:
            continue
        for attribute in event["attributes"]:
            if attribute["key"] in ("spot_updates", "derivative_updates"):
                for update in json.loads(attribute["value"]) or ():
                    book = update["orderbook"]
                    market_id = "0x" + base64.b64decode(book["market_id"]).hex()
                    sides = (_levels(book.get("buy_levels")), _levels(book.get("sell_levels")))
                    found[market_id, int(update["seq"])] = sides
    return found


def _levels(levels: list[dict[str, str]] | None) -> frozenset[tuple[str, str]]:
    return frozenset((amount(x["p"]), amount(x.get("q", "0"))) for x in levels or ())


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
