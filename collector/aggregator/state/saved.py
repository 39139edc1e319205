"""What is saved of an aggregator for the next one, and what the next one makes of it. Pure."""

from typing import Any

import msgspec

from collector.aggregator.state.coverage import NOBODY, UNOWNED, MarketState
from shards.protocol.chain import Chain


class Saved(msgspec.Struct, kw_only=True):
    """The ledger as it is saved."""

    saved_at: int = 0
    """By the clock, ns since 1970."""
    markets: list[MarketState] = []
    chain: Chain = Chain()
    """Which chain it is the ledger of."""
    former: list[dict[str, Any]] = []
    """The ledgers of the chains before it, as they were closed."""
    epoch: int = 0
    """The publisher epoch; the next one is above it."""


class TakenUp(msgspec.Struct, frozen=True):
    """What a run found of the run before it."""

    markets: int
    """How many had blocks accounted for."""
    lowest: int
    """The lowest of the heights through which they were."""
    highest: int
    """The highest of them."""
    saved_at: int


class Saving(msgspec.Struct):
    """How it stands with the ledger that is to outlive us."""

    folder: str
    saved_at: float
    """When it was saved last, monotonic."""
    error: str = ""
    """Why it cannot be saved at present."""
    taken_up: TakenUp | None = None


def begin_run(saved: Saved) -> TakenUp | None:
    """
    Take up what another run left: its shards are gone, so nobody owns any market.

    Returns:
        How far it reaches; None if no block was accounted for.

    """
    lasts = []
    for state in saved.markets:
        if state.shard != NOBODY:
            state.shard, state.state, state.reason = UNOWNED, "pending", ""
            if state.first:
                lasts.append(state.last)
        state.since = 0
    if not lasts:
        return None
    return TakenUp(len(lasts), min(lasts), max(lasts), saved.saved_at)
