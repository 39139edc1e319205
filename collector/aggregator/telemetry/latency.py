"""
Latency of frames, as a series of named hops, per shard and partly per channel.

::

    block time ──► receive ──► decoded ──► pushed ──► aggregator ──► published ──► subscriber
        block_to_recv  recv_to_decoded │  push_to_aggregator │               the subscriber's own
                            decoded_to_pushed      aggregator_to_published
                   └────────── recv_to_aggregator ──────────┘
                   └─ block_span: a block's first receive to its last frame published ─┘

Measured per batch or per block, never per frame: the frames of a batch are made within half a
millisecond, so the first and the last represent the others. At high rates an even sample of the
batches is timed (`AdaptiveSampler`), plus the one with the longest wait. Replayed and resent frames are not
counted. The two hops inside a shard come with its reports. Pure: instants are passed as ns since
the epoch.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Final

from collector.client.performance import ClockCheck, Offset
from shards.protocol.frames import KEYFRAME, KIND_BY_CHANNEL, LATE, BatchHeader, Record
from shards.protocol.histograms import AdaptiveSampler, Histogram

_NOT_LIVE: Final = LATE | KEYFRAME
_SPAN_OVER_NS: Final = 2_000_000_000
"""A block without a frame for this long is finished."""
_CLOCK_BLOCKS: Final = 500
"""Blocks over which the clocks are compared, some minutes."""
_FAR_NS: Final = 10_000_000_000
_SUMMED_NS: Final = 60_000_000_000
"""How late a block is at most in the sum. A node that catches up is late by days, block after block,
and the sum has to fit into 64 bits."""


class ShardHops:
    """The hops of one shard's frames."""

    __slots__ = (
        "aggregator_to_published",
        "block_to_recv",
        "came",
        "channels",
        "height",
        "longest",
        "push_to_aggregator",
        "recent",
        "sampler",
        "span",
    )

    def __init__(self) -> None:
        self.height = 0
        """Height of its newest live frame."""
        self.span = [0, 0]
        """For that block: first receipt, last frame published."""
        self.came = 0
        """When the newest batch with live frames of that block arrived."""
        self.sampler = AdaptiveSampler()
        self.longest = 0
        """The longest wait of any of its frames, ns."""
        self.recent: defaultdict[int, Histogram] = defaultdict(Histogram)
        """Receipt to aggregator by kind of frame, since the last `take_recent`."""
        self.channels: defaultdict[int, Histogram] = defaultdict(Histogram)
        """The same, before that."""
        self.block_to_recv = Histogram()
        self.push_to_aggregator = Histogram()
        self.aggregator_to_published = Histogram()

    def end_span(self) -> None:
        """
        Extend the block's span to the arrival of its last batch, if that was not timed.

        Close enough: only small batches go untimed.
        """
        if self.came > self.span[1]:
            self.span[1] = self.came


class Latencies:
    """All hops that the aggregator sees."""

    def __init__(self) -> None:
        self.shards: dict[int, ShardHops] = {}
        self.block_span = Histogram()
        self.clock = BlockClock()
        self._stopped = ShardHops()
        """Totals of shards that were stopped."""
        self._spans: dict[int, list[int]] = {}
        """By height: first receive, last frame published."""

    # ---- the data path --------------------------------------------------------------

    def receive(self, records: list[Record], header: BatchHeader, sequence: int, now: int) -> bool:
        """Measure a batch that has just arrived; return whether to time its publication as well."""
        try:
            hops = self.shards[header.shard]
        except KeyError:
            hops = self.shards[header.shard] = ShardHops()
        # The oldest payload of the batch.
        first = records[0]
        if first.height > hops.height:
            self._begin_block(hops, first, now)
        elif first.height == hops.height and not first.flags & _NOT_LIVE:
            hops.came = now
        if sequence >= hops.sampler.due:
            hops.sampler.take(sequence, now)
            self._time(hops, records, header, now)
            return True
        if now - first.ts_recv > hops.longest:
            _stretch(hops, first, header, now)
        return False

    def _time(self, hops: ShardHops, records: list[Record], header: BatchHeader, now: int) -> None:
        hops.push_to_aggregator.record(now - header.ts_push)
        # The oldest and the newest payload of the batch; the others are spread evenly in between.
        first, last = records[0], records[-1]
        if not first.flags & LATE:
            waited = now - first.ts_recv
            hops.recent[first.kind].record(waited)
            if waited > hops.longest:
                hops.longest = waited
        if last is not first and not last.flags & LATE:
            hops.recent[last.kind].record(now - last.ts_recv)
            if last.height > hops.height:
                self._begin_block(hops, last, now)

    def _begin_block(self, hops: ShardHops, record: Record, now: int) -> None:
        """Once per block and shard: its first frame gives the time of receipt."""
        if record.flags & LATE or not record.ts_event:
            return
        hops.end_span()
        hops.height = record.height
        late = record.ts_recv - record.ts_event
        hops.block_to_recv.record(late)
        hops.block_to_recv.total -= max(0, late - _SUMMED_NS)
        self.clock.hear(record.height, late)
        hops.span = self._spans.setdefault(record.height, [record.ts_recv, now])
        if record.ts_recv < hops.span[0]:
            hops.span[0] = record.ts_recv
        hops.came = now

    def published(self, shard: int, came: int, now: int) -> None:
        """Record the publication of the same batch."""
        hops = self.shards[shard]
        hops.aggregator_to_published.record(now - came)
        if hops.came == came:
            # Otherwise it brought nothing of this block: replayed frames, a book, a gap.
            hops.span[1] = now

    # ---- once a second --------------------------------------------------------------

    def take_recent(self, now: int) -> dict[int, Histogram]:
        """Return each shard's receipt-to-aggregator latency since the last call; finish old blocks."""
        for hops in self.shards.values():
            hops.end_span()
        for height in [h for h, (_, last) in self._spans.items() if now - last > _SPAN_OVER_NS]:
            first, last = self._spans.pop(height)
            self.block_span.record(last - first)
        taken = {}
        for shard, hops in self.shards.items():
            taken[shard] = merged(hops.recent.values())
            for kind, histogram in hops.recent.items():
                hops.channels[kind].merge(histogram)
            hops.recent.clear()
        return taken

    def fresh(self, shard: int) -> None:
        """A new process of a shard counts its frames from 1 again."""
        if shard in self.shards:
            self.shards[shard].sampler.due = 0

    def stop(self, shard: int) -> None:
        """A shard was stopped: its counts stay in the totals."""
        hops = self.shards.pop(shard, None)
        if hops is None:
            return
        into = self._stopped
        into.block_to_recv.merge(hops.block_to_recv)
        into.push_to_aggregator.merge(hops.push_to_aggregator)
        into.aggregator_to_published.merge(hops.aggregator_to_published)
        for channels in (hops.channels, hops.recent):
            for kind, histogram in channels.items():
                into.channels[kind].merge(histogram)

    # ---- what is known --------------------------------------------------------------

    def recv_to_aggregator(self, shard: int | None = None) -> dict[str, Histogram]:
        """Return it by channel, for one shard or for all shards so far."""
        of = [*self.shards.values(), self._stopped] if shard is None else [self.shards[shard]]
        names = {kind: name for name, kind in KIND_BY_CHANNEL.items()}
        found: dict[str, Histogram] = {}
        for hops in of:
            for channels in (hops.channels, hops.recent):
                for kind, histogram in channels.items():
                    found.setdefault(names[kind], Histogram()).merge(histogram)
        return found

    def hop(self, name: str) -> Histogram:
        """Return one of a shard's hops, over all shards so far."""
        return merged(getattr(hops, name) for hops in (*self.shards.values(), self._stopped))


def _stretch(hops: ShardHops, first: Record, header: BatchHeader, now: int) -> None:
    """Record the longest wait of an untimed batch; it only raises the maximum."""
    if not first.flags & LATE:
        hops.longest = now - first.ts_recv
        hops.recent[first.kind].stretch(now - first.ts_recv)
        hops.push_to_aggregator.stretch(now - header.ts_push)


class BlockClock:
    """
    Whether block times and our clock can be compared.

    Validators set a block's time. If blocks seem to arrive before they were made, or very long
    after, the clocks differ.
    """

    __slots__ = ("_height", "_late")

    def __init__(self) -> None:
        self._height = 0
        self._late: deque[int] = deque(maxlen=_CLOCK_BLOCKS)

    def hear(self, height: int, late: int) -> None:
        """Take how long after its block time a block was first received."""
        if height > self._height:
            self._height = height
            self._late.append(late)

    def summary(self) -> ClockCheck:
        """Return how far apart the clocks seem, and whether to trust ``block_to_recv``."""
        late = sorted(self._late)
        if not late:
            return ClockCheck(reason="no block yet")
        half = late[len(late) // 2]
        reason = ""
        if late[0] < 0:
            reason = (
                f"a block came {-late[0] / 1e6:.0f} ms before its own time: "
                "our clock is behind the validators' clocks"
            )
        elif half > _FAR_NS:
            reason = (
                f"blocks come {half / 1e9:.0f} s after their time: our clock is ahead of the "
                "validators' clocks, or the node is behind the chain"
            )
        offset = Offset(min=late[0] / 1e6, p50=half / 1e6, max=late[-1] / 1e6)
        return ClockCheck(trusted=not reason, reason=reason, blocks=len(late), offset_ms=offset)


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """Add histograms up."""
    total = Histogram()
    for histogram in histograms:
        total.merge(histogram)
    return total
