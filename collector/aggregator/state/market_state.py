"""The aggregator's record of one market: its owner, its state, its ledger. Pure."""

from typing import Final

import msgspec

from collector.aggregator.state.gap_log import GapLog
from shards.protocol import gap_details
from shards.protocol.control import MarketReport, Report, ResumePoint
from shards.protocol.events import Gap
from shards.protocol.ledger import LedgerState, MarketLedger
from shards.protocol.ranges import union, within

_BLOCK_NS: Final = 1_000_000_000
"""Longer than a block takes, for counting blocks by time."""
UNOWNED: Final = -1
"""The first shard that reports such a market becomes its owner."""
NOBODY: Final = -2
"""Such a market is not collected."""


class MarketState(LedgerState, array_like=True, kw_only=True):
    """What is known of one market; encoded, it is the ledger that outlives the aggregator."""

    market_id: str
    shard: int = UNOWNED
    """Its owner, the shard whose reports count."""
    state: str = "pending"
    reason: str = ""
    gaps: GapLog = msgspec.field(default_factory=GapLog)
    resyncs: int = 0
    earlier_resyncs: int = 0
    """Counted by earlier processes of its shard."""
    epoch: int = 0
    """Epoch of the shard process whose counts these are."""
    since: int = 0
    """The process that took it over from another shard is responsible for blocks from here on."""
    taken_by: int = 0
    """Epoch of that process."""
    symbol: str = ""
    """Its name, for a later run in which it is not listed any more; empty in older ledgers."""

    @property
    def is_collected(self) -> bool:
        """Whether its blocks are due: it has joined and was not removed since."""
        return self.first > 0 and self.state != "inactive"

    def ended(self, ts: int) -> Gap:
        """Return the gap that says the market's blocks end here; it stays open until the market is back."""
        number, detail = max(ts, self.gaps.newest + 1), gap_details.COLLECTION_ENDED
        return Gap(self.market_id, number, "open", "removed", self.last + 1, 0, number, detail)

    def update(self, market: MarketReport, report: Report) -> None:
        """Take its shard's report of it."""
        if (self.shard, self.epoch) != (report.shard, report.epoch):
            # Another process counts from 0; its predecessor's counts are added. The same process
            # continues its counts, even if the aggregator was restarted.
            self.earlier_resyncs += self.resyncs
        self.shard = report.shard
        self.epoch = report.epoch
        self.state = market.state
        self.reason = market.reason
        self.resyncs = market.resyncs

    def account(self, market: MarketReport, epoch: int) -> None:
        """Take the ledger from a report of its shard."""
        if self.since and epoch == self.taken_by:
            self._continue_ledger(market)
            return
        # A shard that resumes reports the whole ledger, including its predecessors' part.
        self.since = 0
        self.copy_ledger(market)

    def _continue_ledger(self, market: MarketReport) -> None:
        """Add what the new owner has to what the one before it accounted for."""
        since, last = self.since, max(market.last, self.since - 1)
        # Bounded apart from the new owner's: what is summed up must stay below ``since``.
        before = MarketLedger(
            replayed=within(self.replayed, 0, since - 1),
            missing=within(self.missing, 0, since - 1),
        )
        # Its own account of earlier blocks is of frames that were not needed.
        self.replayed = union([*before.replayed, *within(market.replayed, since, last)])
        self.missing = union([*before.missing, *within(market.missing, since, last)])
        self.last, self.audited_to = last, market.audited_to

    def resume_point(self, again: int = 0) -> ResumePoint:
        """Return where a restarted shard resumes it: some blocks before the accounted height."""
        ledger = MarketLedger.of(self)
        if again:
            ledger.rewind(max(self.first - 1, self.last - again))
            ledger.audited_to = max(0, self.audited_to - again * _BLOCK_NS)
        point = ResumePoint(gap=self.gaps.gap)
        point.copy_ledger(ledger.state())
        return point
