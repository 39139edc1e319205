"""
What a part lacks in some of its channels alone. Pure.

The coverage table says which heights of a market are here at all. Not all of them have every
channel: a backfill of trades fetches no books, and a recorder may be started again with more
channels. The manifest says what the channels of each part lack beyond the table.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

from shards.protocol.channels import CHAIN_WIDE, CHANNELS, Identity
from shards.protocol.ranges import RangeList, within
from shards.protocol.settings import CHAIN

ByChannel: TypeAlias = dict[str, dict[str, RangeList]]
"""
Heights that the table counts as here and that a channel lacks, by channel and symbol.

A part has none of the heights of a channel that is not named.
"""
BY_HEIGHT: Final = frozenset(
    channel.name
    for channel in CHANNELS
    if channel.is_offered and channel.identity is not Identity.VALUE
)
"""Channels that belong to blocks; the others only have events now and then."""
EVER: Final = 1 << 62


def applies(channel: str, symbol: str) -> bool:
    """Say whether a symbol can have a channel: the chain has its own, and markets have theirs."""
    return (channel in CHAIN_WIDE) == (symbol == CHAIN.symbol)


def lacks(known: ByChannel | None, channel: str, symbol: str, heights: RangeList) -> RangeList:
    """
    Return which heights of a market's share of a part a channel lacks.

    Args:
        known: What the manifest says of the part; None if it was written before channels were counted.
        channel: The channel.
        symbol: The market.
        heights: Those that the coverage table counts as here.

    """
    if known is None or channel not in BY_HEIGHT or not applies(channel, symbol):
        return []
    if channel not in known:
        return heights
    lacking = known[channel].get(symbol)
    return [r for low, high in heights for r in within(lacking, low, high)] if lacking else []


def named(parts: Iterable[ByChannel]) -> list[str]:
    """Return the channels that some part has."""
    return sorted({channel for part in parts for channel in part})
