"""The aggregator's record of each shard: its process, its frames, its reports. Pure."""

from collections.abc import Collection

import msgspec

from shards.protocol.control import MarketReport, Report


class ShardSession:
    """One shard: its living process, its frames, its markets as last reported."""

    __slots__ = (
        "accounted",
        "accounts",
        "assignment",
        "at_front",
        "changed",
        "epoch",
        "former",
        "frame_sequence",
        "frames",
        "front",
        "has_sent_all",
        "lost",
        "lost_through",
        "markets",
        "pid",
        "report",
        "unaccounted",
        "unbegun",
    )

    def __init__(self) -> None:
        self.epoch = 0
        self.former: set[int] = set()
        """The epochs of replaced processes."""
        self.frame_sequence = 0
        self.frames = 0
        self.has_sent_all = False
        """Whether a report was accounted for since this aggregator began: then the frames that its
        shard had kept are all here. Until that, they may die with the shard."""
        self.lost = 0
        """Frames missing in the sequence of batches; their blocks show up as missing."""
        self.lost_through = 0
        self.pid = 0
        self.report: Report | None = None
        self.markets: dict[str, MarketReport] = {}
        """The newest report of each of its markets."""
        self.unbegun: dict[str, None] = {}
        """Those whose topics were not declared to late joiners by its reports yet."""
        self.at_front: set[str] = set()
        """Those whose ledgers end at the front of the newest report, whatever height they name."""
        self.changed: dict[str, MarketReport] = {}
        """Those reported since `accounted`."""
        self.unaccounted: Report | None = None
        """A report whose frames have not all arrived yet."""
        self.accounted: dict[str, MarketReport] = {}
        """The markets as they were in the newest report whose frames have all arrived."""
        self.front = 0
        """The front of that report."""
        self.accounts = 0
        """The number of such reports."""
        self.assignment = 0
        """The assignment version in the newest of them."""

    def is_replaced(self, epoch: int, *, fresh: bool) -> bool:
        """
        Return whether the process with this epoch has been replaced by another.

        A successor's first report is marked fresh. Its epoch need not be higher, because the clock
        may have been set back.
        """
        if epoch in self.former:
            return True
        return not fresh and epoch < self.epoch

    def begin(self, epoch: int, pid: int) -> None:
        """A new process has this shard."""
        if self.epoch:
            self.former.add(self.epoch)
        self.epoch = epoch
        self.pid = pid
        self.begin_chain()

    def begin_chain(self) -> None:
        """Discard everything reported so far: the chain was replaced."""
        self.frame_sequence = 0
        self.lost_through = 0
        self.report = None
        self.markets = {}
        self.unbegun = {}
        self.at_front = set()
        self.changed = {}
        self.unaccounted = None
        self.accounted = {}
        self.front = 0
        self.accounts = 0

    def count(self, first: int, number: int) -> None:
        """Count the frames of a batch, and those missing before it."""
        if self.frame_sequence and first > self.frame_sequence + 1:
            self.lost += first - self.frame_sequence - 1
            self.lost_through = first - 1
        self.frames += number

    def take(self, report: Report) -> bool:
        """Take a report; return False if it has changes since a report that we do not have."""
        before = self.report
        if report.since and (before is None or report.since != before.number):
            return False
        rows = {market.market_id: market for market in report.markets}
        at_front = {name for name, row in rows.items() if row.last == report.front}
        if report.since:
            self.markets.update(rows)
            self.at_front.difference_update(rows)
            self.at_front.update(at_front)
            self.changed.update(rows)
        else:
            self.markets, self.at_front, self.changed = rows, at_front, dict(rows)
        self.unbegun.update(dict.fromkeys(rows))
        self.report = self.unaccounted = report
        return True

    def account_again(self, market_id: str) -> None:
        """Account for a market with the next report, although that may not name it."""
        self.changed[market_id] = self.markets[market_id]

    def account(self) -> tuple[Report, Collection[str]] | None:
        """
        Return what to account for once all frames made before the newest report have arrived.

        Returns:
            The report with all markets that changed since the last one returned, and the markets
            whose ledgers have moved on to its front since then. None if frames are outstanding.

        """
        report = self.unaccounted
        if report is None:
            return None
        if self.lost_through and report.frames <= self.lost_through:
            # Made while frames were waiting that have since been dropped; their blocks are replayed.
            self.unaccounted = None
            return None
        if self.frame_sequence < report.frames and report.kept:
            return None
        self.unaccounted = None
        if self.changed or not report.since:
            self.accounted = dict(self.markets)
        has_moved = report.front != self.front
        moved_on = self.at_front if has_moved else self.at_front & self.changed.keys()
        self.front = report.front
        report = msgspec.structs.replace(report, markets=list(self.changed.values()))
        self.changed = {}
        self.accounts += 1
        self.has_sent_all = True
        self.assignment = report.assignment
        return report, moved_on
