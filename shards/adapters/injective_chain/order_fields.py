"""Common to the chain's order formats: names of its enum numbers, bytes as text."""

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
"""By number in the chain's ``OrderType``."""


def type_name(number: int) -> str:
    """Return an order type's name; unknown types keep their number."""
    return TYPES[number] if 0 <= number < len(TYPES) else f"TYPE_{number}"


def status_name(number: int) -> str:
    """Return an order status's name; unknown ones keep their number."""
    return STATUSES.get(number) or f"status {number}"


def hexadecimal(encoded: str) -> str:
    """Format base64 bytes as hexadecimal, like the stream's hashes."""
    return "0x" + base64.b64decode(encoded).hex() if encoded else ""


def order(order_hash: str, status: str, order_type: str, said: Any) -> Order:
    """
    Build an order from its JSON fields; the stream and the events use the same texts.

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
