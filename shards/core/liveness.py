"""
What shows that a source tells everything: the policy that an adapter gives its pipeline.

A source that tells blocks proves itself by their heights (blocks.py). Another has to be
compared with something else, which is its adapter's to know. `Liveness` is one for all
markets of a shard, `Track` one for each of them; a track moves its feed (feed.py).
"""

from collections.abc import Iterable

from shards.core.feed import Feed
from shards.core.track import Track
from shards.protocol.settings import Market


class Head:
    """The newest block that anything named."""

    __slots__ = ("at", "block_time_s", "height", "ts_event")

    def __init__(self) -> None:
        self.height = 0
        self.ts_event = 0
        """0 where it was not told."""
        self.at = 0
        """``ts_recv``; 0 for one that was taken over from a former process."""
        self.block_time_s = 0.0
        """Observed pace of the blocks; 0 where it is not known."""

    def advance(self, height: int, ts_event: int, ts_recv: int) -> None:
        """Take a higher one."""
        self.height = height
        self.ts_event = ts_event
        self.at = ts_recv


class Liveness:
    """What the tracks of a shard have in common."""

    parts = 1
    """A market may have so many subscriptions at once; a number modulo this says which."""

    def __init__(self) -> None:
        self.head = Head()

    def expect(self, markets: int) -> None:
        """So many markets will there be, all together."""

    def track(self, feed: Feed, market: Market) -> Track:
        """Make the track of a feed."""
        raise NotImplementedError

    def forget(self, market_id: str) -> None:
        """A market is let go."""

    def advance(self, height: int, ts_event: int, ts_recv: int) -> None:
        """A new height was named."""
        self.head.advance(height, ts_event, ts_recv)

    def hear(self, feeds: Iterable[Feed], message: object, ts_recv: int) -> bool:
        """Take a message that is neither a block nor an answer; False if it is of no use."""
        return False

    def clock_set(self, now: int) -> None:
        """The wall clock was set: how long anything has been silent counts from now on, in ns."""

    def held_blocks(self) -> int:
        """Count the blocks that wait until earlier ones are replayed."""
        return 0
