"""Which feeds a subscription's messages belong to. Pure."""

from collections.abc import Callable, Collection, Iterable, Sequence

from shards.core.feed import Feed
from shards.core.liveness import Liveness
from shards.protocol.events import Block


class Subscriptions:
    """The subscriptions of one shard, by number; a market has at most one of each part."""

    def __init__(self, liveness: Liveness) -> None:
        self._parts = liveness.parts
        self.feeds: dict[int, list[Feed]] = {}
        """The feeds of each subscription."""
        self.alone: dict[int, Callable[[Block, int], None]] = {}
        """Fast path for single-market subscriptions. A group that shrank to one market does not
        qualify: its blocks may still carry the others."""
        self._of_market: dict[tuple[str, int], int] = {}
        """The subscription of each market that has one, by part (`Liveness.parts`)."""

    def begin(
        self, subscription: int, feeds: list[Feed], ts: int, served: Collection[str] = ()
    ) -> None:
        """
        From now on, messages with this number belong to exactly these feeds.

        Another subscription serves the markets in ``served``: to their tracks nothing changes.
        """
        part = subscription % self._parts
        self._leave(feeds, part)
        self.feeds[subscription] = feeds
        for feed in feeds:
            if feed.market_id not in served:
                feed.track.subscribed(subscription, ts)
            self._of_market[feed.market_id, part] = subscription
        if len(feeds) == 1:
            self.alone[subscription] = feeds[0].track.receive

    def end(self, subscription: int) -> list[Feed]:
        """Stop routing a subscription; return its feeds."""
        self.alone.pop(subscription, None)
        feeds = self.feeds.pop(subscription, [])
        for feed in feeds:
            self._of_market.pop((feed.market_id, subscription % self._parts), None)
            feed.track.unsubscribed(subscription)
        return feeds

    def end_all(self) -> None:
        """Stop routing every subscription."""
        for subscription in list(self.feeds):
            self.end(subscription)

    def leave(self, feeds: Sequence[Feed]) -> None:
        """Remove feeds from the subscriptions that they are in."""
        for part in range(self._parts):
            self._leave(feeds, part)

    def _leave(self, feeds: Iterable[Feed], part: int) -> None:
        leaving: dict[int, set[Feed]] = {}
        for feed in feeds:
            subscription = self._of_market.pop((feed.market_id, part), None)
            if subscription is not None:
                feed.track.unsubscribed(subscription)
                leaving.setdefault(subscription, set()).add(feed)
        for subscription, gone in leaving.items():
            kept = [feed for feed in self.feeds[subscription] if feed not in gone]
            if kept:
                self.feeds[subscription] = kept
            else:
                self.end(subscription)
