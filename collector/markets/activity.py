"""
How active a market is, and what follows: whom to choose, what it weighs, who goes first.

Pure. Evidence comes from a look before it is collected (assessment.py) and, while running, from
what is heard. ``active``: something changed of late. ``quiet``: it has a book or was
traded, but nothing changes. ``dead``: no book and no trade. Quiet markets are not stale,
and dead ones are collected like any other: a book may come at any block.
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
"""The liveliest first."""

_EMPTY_BLOCKS: Final = 1.0
_CHANGES: Final = 3.0
"""A block that changes a market costs a shard four times one that does not (chain-ws,
bench/): this much more."""
_MOST: Final = 2.0
"""Changes in a block beyond which more cost little more: one message carries them all."""


Assessment = Mapping[str, Evidence]
"""By market id; a market that it does not name has no evidence."""

NOTHING: Final = Evidence()


def level(evidence: Evidence) -> Level:
    """Judge by what is known before anything was heard."""
    if evidence.moved:
        return "active"
    if evidence.has_book is False and not evidence.volume:
        return "dead"
    if evidence.moved is None and evidence.has_book is not False:
        # Nobody could look twice: do not leave out what may well be active.
        return "active"
    return "quiet"


def is_at_least(found: Level, least: Level) -> bool:
    """Say whether a level is this one or livelier."""
    return LEVELS.index(found) <= LEVELS.index(least)


def liveliest_first(markets: Iterable[Market], assessed: Assessment) -> list[Market]:
    """Sort markets: by level, then by volume; equal ones keep their order."""

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
    Choose the markets that are at least so active, and of those the `top` liveliest.

    They keep their order.

    Raises:
        ConfigError: If none is as active as that.

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
    Estimate what each market will cost its shard: 1 for hearing blocks, more for changes.

    An active one is taken to change in every block, and twice where its volume is well
    above the usual; in steps, so that small differences move no market.
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
    """Weigh a market by what was heard of it: its book updates and trades per block."""
    return _EMPTY_BLOCKS + _CHANGES * min(_MOST, changes_per_block)


def count(markets: Iterable[Market], assessed: Assessment) -> dict[Level, int]:
    """Count markets by level, the liveliest first."""
    counts = dict.fromkeys(LEVELS, 0)
    for market in markets:
        counts[level(assessed.get(market.market_id, NOTHING))] += 1
    return counts
