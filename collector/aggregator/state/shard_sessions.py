"""What the aggregator knows of each shard: its living process, its frames, its last report. Pure."""

from shards.protocol.control import MarketReport, Report


class ShardSession:
    """One shard: its living process, its frames, its last report."""

    __slots__ = (
        "accounted",
        "accounts",
        "assignment",
        "epoch",
        "former",
        "frame_sequence",
        "frames",
        "lost",
        "lost_through",
        "pid",
        "report",
        "unaccounted",
    )

    def __init__(self) -> None:
        self.epoch = 0
        self.former: set[int] = set()
        """The epochs of processes that were replaced."""
        self.frame_sequence = 0
        self.frames = 0
        self.lost = 0
        """Frames that a batch's sequence skipped; their blocks show up as missing."""
        self.lost_through = 0
        self.pid = 0
        self.report: Report | None = None
        self.unaccounted: Report | None = None
        """A report whose frames have not all arrived."""
        self.accounted: dict[str, MarketReport] = {}
        """The markets in the newest report whose frames have all arrived."""
        self.accounts = 0
        """How many such reports there were."""
        self.assignment = 0
        """The version of the newest of them."""

    def is_replaced(self, epoch: int, *, fresh: bool) -> bool:
        """
        Say whether the process of an epoch is one that another has replaced.

        A successor says that it is fresh before anything else. Its epoch need not be the
        greater one: the clock may have been set back.
        """
        if epoch in self.former:
            return True
        return not fresh and epoch < self.epoch

    def begin(self, epoch: int, pid: int) -> None:
        """Another process has taken over."""
        if self.epoch:
            self.former.add(self.epoch)
        self.epoch = epoch
        self.pid = pid
        self.begin_chain()

    def begin_chain(self) -> None:
        """Nothing of what was reported counts any more."""
        self.frame_sequence = 0
        self.lost_through = 0
        self.report = None
        self.unaccounted = None
        self.accounted = {}
        self.accounts = 0

    def count(self, first: int, number: int) -> None:
        """Count the frames of a batch, and those between it and the one before."""
        if self.frame_sequence and first > self.frame_sequence + 1:
            self.lost += first - self.frame_sequence - 1
            self.lost_through = first - 1
        self.frames += number

    def account(self) -> Report | None:
        """Return the newest report once all frames made before it are here; None until then."""
        report = self.unaccounted
        if report is None:
            return None
        if self.lost_through and report.frames <= self.lost_through:
            # Made when frames still waited that were dropped since; their blocks are replayed.
            self.unaccounted = None
            return None
        if self.frame_sequence < report.frames and report.kept:
            return None
        self.unaccounted = None
        self.accounted = {market.market_id: market for market in report.markets}
        self.accounts += 1
        self.assignment = report.assignment
        return report
