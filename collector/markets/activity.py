"""
How active a market is, and what follows: selection, weight, order.

Pure. Evidence comes from a look at the chain before a market is collected (assessment.py) and,
while running, from its events. ``active``: something changed recently. ``quiet``: it has a book or
was traded, but nothing changes. ``dead``: no book and no trade. Quiet markets are not stale, and
dead ones are collected like any other: a book may appear in any block.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from collector.settings.start_options import Level as Level
from collector.settings.wording import plural
from shards.adapters.interface import Evidence
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Market

LEVELS: Final[tuple[Level, ...]] = ("active", "quiet", "dead")
"""Most active first."""

_EMPTY_BLOCKS: Final = 1.0
_CHANGES: Final = 3.0
"""Extra cost of a block that changes a market, relative to one that does not: such a block costs
a shard four times as much (chain-ws, bench/)."""
_MOST: Final = 2.0
"""Changes per block above which more cost little more, because one message carries them all."""


Assessment = Mapping[str, Evidence]
"""By market id; markets without an entry have no evidence."""

NOTHING: Final = Evidence()


def level(evidence: Evidence) -> Level:
    """Classify by what is known before any event was received."""
    if evidence.moved:
        return "active"
    if evidence.has_book is False and not evidence.volume:
        return "dead"
    if evidence.moved is None and evidence.has_book is not False:
        # Nothing could be compared: do not exclude what may well be active.
        return "active"
    return "quiet"


def is_at_least(found: Level, least: Level) -> bool:
    """Return whether a level is this active or more."""
    return LEVELS.index(found) <= LEVELS.index(least)


def liveliest_first(markets: Iterable[Market], assessed: Assessment) -> list[Market]:
    """Sort markets by level, then by volume; ties keep their order."""

    def key(market: Market) -> tuple[int, float]:
        evidence = assessed.get(market.market_id, NOTHING)
        return LEVELS.index(level(evidence)), -(evidence.volume or 0.0)

    return sorted(markets, key=key)


def choose(
    markets: Sequence[Market],
    assessed: Assessment,
    *,
    least: Level | None = None,
    top: int | None = None,
) -> list[Market]:
    """
    Choose the markets of at least this level, and of those the `top` most active.

    Their order is kept.

    Raises:
        ConfigError: If no market is that active.

    """
    chosen = [
        market
        for market in markets
        if least is None or is_at_least(level(assessed.get(market.market_id, NOTHING)), least)
    ]
    if not chosen:
        raise ConfigError(
            f"none of {plural(len(markets), 'market')} is as active as --min-activity {least} asks: "
            "'collector markets' shows how active each is"
        )
    if top is None:
        return chosen
    ids = {market.market_id for market in liveliest_first(chosen, assessed)[:top]}
    return [market for market in chosen if market.market_id in ids]


def weights(markets: Sequence[Market], assessed: Assessment) -> dict[str, float]:
    """
    Estimate each market's cost for its shard: 1 for receiving blocks, more for changes.

    An active market is assumed to change in every block, or twice if its volume is well above the
    usual. The steps are coarse, so that small differences move no market.
    """
    evidence = {m.market_id: assessed.get(m.market_id, NOTHING) for m in markets}
    active = {market_id: found for market_id, found in evidence.items() if level(found) == "active"}
    volumes = [found.volume for found in active.values() if found.volume]
    usual = sum(volumes) / len(volumes) if volumes else 0.0
    return {
        market_id: _EMPTY_BLOCKS + _CHANGES * _busyness(found.volume or 0.0, usual)
        if market_id in active
        else _EMPTY_BLOCKS
        for market_id, found in evidence.items()
    }


def _busyness(volume: float, usual: float) -> float:
    if volume <= usual:
        return 1.0
    return min(_MOST, 2.0 ** round(math.log2(volume / usual)))


def measured_weight(changes_per_block: float) -> float:
    """Weigh a market by its measured book updates and trades per block."""
    return _EMPTY_BLOCKS + _CHANGES * min(_MOST, changes_per_block)


def count(markets: Iterable[Market], assessed: Assessment) -> dict[Level, int]:
    """Count markets by level, most active first."""
    counts = dict.fromkeys(LEVELS, 0)
    for market in markets:
        counts[level(assessed.get(market.market_id, NOTHING))] += 1
    return counts
