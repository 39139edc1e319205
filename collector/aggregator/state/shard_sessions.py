"""The aggregator's record of each shard: its process, its frames, its last report. Pure."""

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
        """The epochs of replaced processes."""
        self.frame_sequence = 0
        self.frames = 0
        self.lost = 0
        """Frames missing in the sequence of batches; their blocks show up as missing."""
        self.lost_through = 0
        self.pid = 0
        self.report: Report | None = None
        self.unaccounted: Report | None = None
        """A report whose frames have not all arrived yet."""
        self.accounted: dict[str, MarketReport] = {}
        """The markets in the newest report whose frames have all arrived."""
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
        self.unaccounted = None
        self.accounted = {}
        self.accounts = 0

    def count(self, first: int, number: int) -> None:
        """Count the frames of a batch, and those missing before it."""
        if self.frame_sequence and first > self.frame_sequence + 1:
            self.lost += first - self.frame_sequence - 1
            self.lost_through = first - 1
        self.frames += number

    def account(self) -> Report | None:
        """Return the newest report once all frames made before it have arrived, else None."""
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
        self.accounted = {market.market_id: market for market in report.markets}
        self.accounts += 1
        self.assignment = report.assignment
        return report
