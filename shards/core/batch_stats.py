"""The batches of one shard: how many frames they have, and the latency of a sample of them."""

from shards.protocol.histograms import AdaptiveSampler, Histogram, ShardStats, Vitals


class BatchStats:
    """Sizes of all batches, and times of those that the sampler chooses."""

    __slots__ = ("most_age", "sampler", "sizes", "stats")

    def __init__(self, vitals: Vitals, *, most_age_s: float) -> None:
        self.most_age = int(most_age_s * 1e9)
        """A batch is sent once its first payload is older than this, ns."""
        self.stats = ShardStats(vitals=vitals)
        self.sampler = AdaptiveSampler()
        self.sizes: dict[int, int] = {}
        """How many pushes had each number of frames."""

    def timed(self, frames: int, ts_recv: int, decoded: int, pushed: int) -> None:
        """Take the times (ns) of a batch, which ended with this frame sequence."""
        self.sampler.take(frames, pushed)
        self.stats.recv_to_decoded.record(decoded - ts_recv)
        self.stats.decoded_to_pushed.record(pushed - decoded)

    def report(self, most: int, *, held_blocks: int, requests: int) -> ShardStats:
        """Return everything measured so far; a batch has at most ``most`` frames."""
        stats = self.stats
        stats.batch_frames = self._frames(most)
        stats.held_blocks = held_blocks
        stats.requests = requests
        return stats

    def _frames(self, most: int) -> Histogram:
        """Count frames per batch from the sizes of the pushes: full batches, then the remainder."""
        counted = Histogram()
        for frames, times in self.sizes.items():
            full, rest = divmod(frames, most)
            if full:
                counted.add(most, full * times)
            if rest:
                counted.add(rest, times)
        return counted
