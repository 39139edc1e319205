"""
The saved state of an aggregator, and how the next one continues from it.

A *run* is one `collector start`; its aggregator may be replaced, and then continues the run.
Pure: instants are passed as arguments.
"""

from typing import Self

import msgspec

from collector.aggregator.state.market_state import NOBODY, UNOWNED, MarketState
from collector.client.summary import BlockCounts, FormerChain, Gaps, TakenUp
from collector.settings.parts import AggregatorConfig
from shards.protocol.chain import Chain


class Saved(msgspec.Struct, kw_only=True):
    """The ledger in its saved form."""

    saved_at: int = 0
    """Wall clock, ns since the epoch."""
    markets: list[MarketState] = []
    chain: Chain = Chain()
    """The chain that this ledger belongs to."""
    former: list[FormerChain] = []
    """The closed ledgers of former chains."""
    epoch: int = 0
    """Not below the publisher epoch, nor the version of any assignment; the next ones are higher."""


class Saving(msgspec.Struct):
    """Whether the ledger can be saved."""

    folder: str
    saved_at: float
    """When it was last saved, monotonic."""
    error: str = ""
    """Why it cannot be saved; empty if it can."""
    taken_up: TakenUp | None = None


class Run(msgspec.Struct):
    """The run and the chain of this aggregator."""

    config: AggregatorConfig
    chain: Chain
    """The chain being collected."""
    former: list[FormerChain]
    """The closed ledgers of former chains."""
    saving: Saving
    revision: int
    """Of the assignment."""

    @classmethod
    def begin(cls, config: AggregatorConfig, saved: Saved, now: float) -> Self:
        """Continue from the saved state, of this run or another; ``now`` is monotonic seconds."""
        # Readers distinguish aggregators by it, even if the clock went back.
        epoch = max(config.epoch, saved.epoch + 1)
        saving = Saving(config.state, now)
        if config.begins:
            saving.taken_up = _take_up(saved)
        config = msgspec.structs.replace(config, epoch=epoch)
        return cls(config, saved.chain, saved.former, saving, config.revision)

    def begin_chain(self, chain: Chain, blocks: BlockCounts, gaps: Gaps, ts: int) -> None:
        """Switch to another chain, under a new epoch; the counts are the former chain's."""
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
        """Return the state to be saved."""
        return Saved(
            saved_at=ts,
            markets=markets,
            chain=self.chain,
            former=self.former,
            epoch=self.config.epoch,
        )


def _take_up(saved: Saved) -> TakenUp | None:
    """
    Resume the state of another run: its shards are gone, so no market has an owner.

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
