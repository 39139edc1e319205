"""
Decode the chain's gRPC messages (v2), given as parsed protobuf objects.

On this wire every amount is the integer text of the value times 10^18; ours is the
decimal text that the chain prints elsewhere (events.py).
"""

from collections.abc import Iterable
from typing import Any

from shards.events import Level, Snapshot


def decimal_text(scaled: str) -> str:
    """
    Turn ``"10010000000000000000"`` into ``"10.010000000000000000"``, exactly.

    An empty text is protobuf's absent field, so it is zero.
    """
    if scaled.startswith("-"):
        return "-" + decimal_text(scaled[1:])
    digits = scaled.rjust(19, "0")
    return f"{digits[:-18]}.{digits[-18:]}"


def snapshot(market_id: str, height: int, response: Any) -> Snapshot:
    """Decode a ``QuerySpotOrderbookResponse`` or ``QueryDerivativeOrderbookResponse``."""
    return Snapshot(
        market_id,
        height,
        response.seq,
        _levels(response.buys_price_level),
        _levels(response.sells_price_level),
    )


def _levels(levels: Iterable[Any]) -> list[Level]:
    return [(decimal_text(level.p), decimal_text(level.q)) for level in levels]
