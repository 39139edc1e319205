"""What the chain's forms of an order have in common: names for its numbers, bytes as text."""

import base64
from typing import Any, Final

from shards.protocol.events import Order

STATUSES: Final = {1: "booked", 2: "matched", 3: "cancelled"}
TYPES: Final = (
    "UNSPECIFIED",
    "BUY",
    "SELL",
    "STOP_BUY",
    "STOP_SELL",
    "TAKE_BUY",
    "TAKE_SELL",
    "BUY_PO",
    "SELL_PO",
    "BUY_ATOMIC",
    "SELL_ATOMIC",
)
"""By their numbers in the chain's ``OrderType``."""


def type_name(number: int) -> str:
    """Name an order type; one that is newer than this code keeps its number."""
    return TYPES[number] if 0 <= number < len(TYPES) else f"TYPE_{number}"


def status_name(number: int) -> str:
    """Name what became of an order; a status that is newer than this code keeps its number."""
    return STATUSES.get(number) or f"status {number}"


def hexadecimal(encoded: str) -> str:
    """Spell base64 bytes as the stream spells hashes."""
    return "0x" + base64.b64decode(encoded).hex() if encoded else ""


def order(order_hash: str, status: str, order_type: str, said: Any) -> Order:
    """
    Make an order of what JSON says of it: the stream's and the events' texts are the same.

    ``said`` has the fields of the chain's limit order, its amounts as 18-decimal texts.
    """
    info = said.order_info
    return Order(
        order_hash,
        status,
        "buy" if "BUY" in order_type else "sell",
        order_type,
        info.price,
        info.quantity,
        said.fillable,
        info.subaccount_id,
        info.fee_recipient,
        info.cid,
        said.trigger_price or "",
        said.margin,
    )
