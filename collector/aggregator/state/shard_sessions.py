"""What the aggregator knows of each shard: its living process, its frames, its last report."""

from shards.protocol.control import MarketReport, Report


class ShardLink:
    """What is known of one shard: its living process, its frames, its last report."""

    __slots__ = (
        "accounted",
        "accounts",
        "assignment",
        "epoch",
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

    def begin(self, epoch: int, pid: int) -> None:
        """A younger process has taken over."""
        self.epoch = epoch
        self.pid = pid
        self.frame_sequence = 0
        self.lost_through = 0
        self.report = None
        self.unaccounted = None
        self.accounted = {}
        self.accounts = 0
