"""
Liveness: the policy by which an adapter shows that its source sends everything.

Block-based sources prove it by heights (blocks.py). Other sources need a comparison, which
their adapter implements. There is one `Liveness` for all markets of a shard, and one `Track`
per market; a track drives its feed (feed.py).
"""

from collections.abc import Iterable

from shards.core.feed import Feed
from shards.core.track import Track
from shards.protocol.settings import Market


class Head:
    """The newest block named by anything."""

    __slots__ = ("at", "block_time_s", "height", "suspect", "ts_event")

    def __init__(self) -> None:
        self.height = 0
        self.ts_event = 0
        """0 if it is unknown."""
        self.at = 0
        """``ts_recv``; 0 if the head was taken over from an earlier process."""
        self.block_time_s = 0.0
        """Observed time between blocks; 0 if unknown."""
        self.suspect = 0
        """Height of a block that cannot belong to our chain; 0: none was received."""

    def advance(self, height: int, ts_event: int, ts_recv: int) -> None:
        """Take a new head if it is higher."""
        self.height = height
        self.ts_event = ts_event
        self.at = ts_recv


class Liveness:
    """What the tracks of a shard have in common."""

    parts = 1
    """Subscriptions that a market may have at once; ``number % parts`` identifies the part."""

    def __init__(self) -> None:
        self.head = Head()

    def expect(self, markets: int) -> None:
        """The total number of markets is about to become this."""

    def track(self, feed: Feed, market: Market) -> Track:
        """Create the track of a feed."""
        raise NotImplementedError

    def forget(self, market_id: str) -> None:
        """A market was removed."""

    def advance(self, height: int, ts_event: int, ts_recv: int) -> None:
        """A new height was named."""
        self.head.advance(height, ts_event, ts_recv)

    def hear(self, feeds: Iterable[Feed], message: object, ts_recv: int) -> bool:
        """Take a message that is neither a block nor an answer; return False if it is useless."""
        return False

    def clock_set(self, now: int) -> None:
        """The wall clock was set: measure all silence from now on (ns)."""

    def held_blocks(self) -> int:
        """Return the number of blocks held until earlier ones are replayed."""
        return 0
