"""
What is saved of an aggregator for the next one, and what the next one makes of it.

A *run* is one `collector start`; its aggregator may be replaced, and goes on with the run.
Pure: instants come in as arguments.
"""

from typing import Self

import msgspec

from collector.aggregator.state.market_state import NOBODY, UNOWNED, MarketState
from collector.client.summary import BlockCounts, FormerChain, Gaps, TakenUp
from collector.settings.parts import AggregatorConfig
from shards.protocol.chain import Chain


class Saved(msgspec.Struct, kw_only=True):
    """The ledger as it is saved."""

    saved_at: int = 0
    """By the clock, ns since 1970."""
    markets: list[MarketState] = []
    chain: Chain = Chain()
    """Which chain it is the ledger of."""
    former: list[FormerChain] = []
    """The ledgers of the chains before it, as they were closed."""
    epoch: int = 0
    """The publisher epoch; the next one is above it."""


class Saving(msgspec.Struct):
    """How it stands with the ledger that is to outlive us."""

    folder: str
    saved_at: float
    """When it was saved last, monotonic."""
    error: str = ""
    """Why it cannot be saved at present."""
    taken_up: TakenUp | None = None


class Run(msgspec.Struct):
    """Which run of which chain this aggregator is for."""

    config: AggregatorConfig
    chain: Chain
    """Which chain is collected."""
    former: list[FormerChain]
    """The ledgers of the chains before it, as they were closed."""
    saving: Saving
    revision: int
    """Of the assignment."""

    @classmethod
    def begin(cls, config: AggregatorConfig, saved: Saved, now: float) -> Self:
        """Go on from what is saved, whichever run it is of; ``now`` is monotonic seconds."""
        # Readers tell aggregators apart by it, also where a clock went back.
        epoch = max(config.epoch, saved.epoch + 1)
        saving = Saving(config.state, now)
        if config.begins:
            saving.taken_up = _take_up(saved)
        config = msgspec.structs.replace(config, epoch=epoch)
        return cls(config, saved.chain, saved.former, saving, config.revision)

    def begin_chain(self, chain: Chain, blocks: BlockCounts, gaps: Gaps, ts: int) -> None:
        """Go on with another chain, under another epoch; the counts are of the one before."""
        before, config = self.chain, self.config
        closed = FormerChain(
            id=before.id,
            generation=before.generation,
            until=ts,
            gaps=gaps,
            **msgspec.structs.asdict(blocks),
        )
        self.former = [*self.former[-9:], closed]
        self.chain = chain
        self.config = msgspec.structs.replace(config, epoch=max(ts, config.epoch + 1))

    def saved(self, markets: list[MarketState], ts: int) -> Saved:
        """Return what is to be saved."""
        return Saved(
            saved_at=ts,
            markets=markets,
            chain=self.chain,
            former=self.former,
            epoch=self.config.epoch,
        )


def _take_up(saved: Saved) -> TakenUp | None:
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
    return TakenUp(
        markets=len(lasts), lowest=min(lasts), highest=max(lasts), saved_at=saved.saved_at
    )
