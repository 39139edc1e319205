"""What an aggregator answers to ``markets``, typed; a contract like the summary. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from collector.client.answers import read


class MarketStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One market of a running collector."""

    market_id: str
    ticker: str = ""
    symbol: str = ""
    type: str = ""
    status: str = ""
    shard: int = -1
    state: str = ""
    reason: str = ""
    height: int = 0
    trades: int | UnsetType = UNSET
    """This and the next two only after a first event of the market was published."""
    book_updates: int | UnsetType = UNSET
    sequence: int | UnsetType = UNSET
    """Of its book."""
    activity: str = ""
    changes_per_s: float = 0.0
    weight: float = 0.0
    """Its weight when markets are split over shards."""
    volume: float | None = None
    volume_blocks: int = 0


def read_markets(answer: Mapping[str, Any]) -> list[MarketStatus]:
    """Read the answer to ``markets``; errors as in `read`."""
    return read(answer, "markets", list[MarketStatus])
