"""Markets as rows: which are shown, in which order, and how bright. Pure."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Final

import msgspec

from collector.client.topic_filter import symbol_pattern
from collector.tui.tones import STATES


class MarketRow(msgspec.Struct, frozen=True, gc=False):
    """One market at one moment."""

    FROM_ANSWER: ClassVar = (
        *("market_id", "ticker", "symbol", "type", "status"),
        *("shard", "state", "reason", "height", "activity"),
    )

    market_id: str
    ticker: str
    symbol: str
    type: str
    status: str
    shard: int
    state: str
    reason: str
    height: int
    activity: str
    sequence: int
    trades: int
    book_updates: int
    per_s: float
    """Trades and book changes."""
    level: int
    """How busy it is, from 0 to 3, against the chain's own pace."""
    age_s: float
    """Since its height last grew."""


ACTIVITIES: Final = ("active", "quiet", "dead")
"""What the collector says of a market over days, where `level` is about the last seconds."""
_KEYS: Final[dict[str, Callable[[MarketRow], Any]]] = {
    "symbol": lambda row: 0,
    "state": lambda row: STATES.index(row.state) if row.state in STATES else -1,
    # By steps only, so that rows do not change places at every look.
    "activity": lambda row: (-row.level, -round(row.per_s / 4)),
    "shard": lambda row: row.shard,
    "age": lambda row: (row.status != "Active", -int(row.age_s / 3)),
}
ORDERS: Final = tuple(_KEYS)
"""By what rows can be sorted: the busiest, oldest and worst first."""


def arranged(
    rows: Iterable[MarketRow], *, order: str, patterns: Iterable[str] = (), text: str = ""
) -> list[MarketRow]:
    """
    Choose and sort rows; equal ones go by symbol.

    Args:
        patterns: Symbols, tickers, globs of either, or market ids: one must match.
        text: Words that must all match: a state, an activity, ``shard:N``, a glob or part of the
            symbol.

    """
    wanted = [pattern.lower() for pattern in patterns]
    words = text.lower().split()
    key = _KEYS[order]
    chosen = [
        row
        for row in rows
        if (not wanted or any(_named(row, pattern) for pattern in wanted))
        and all(_matches(row, word) for word in words)
    ]
    return sorted(chosen, key=lambda row: (key(row), row.symbol))


def _named(row: MarketRow, pattern: str) -> bool:
    names = (row.market_id.lower(), row.ticker.lower())
    return pattern in names or fnmatchcase(row.symbol.lower(), symbol_pattern(pattern).lower())


def _matches(row: MarketRow, word: str) -> bool:
    if word in STATES:
        return row.state == word
    if word in ACTIVITIES:
        return row.activity == word
    if word.startswith("shard:"):
        return word[6:] in ("", str(row.shard))
    pattern = word.replace("/", "-")
    return pattern in row.symbol.lower() or fnmatchcase(row.symbol.lower(), pattern)
