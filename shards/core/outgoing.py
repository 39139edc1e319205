"""What both pipelines have alike: the ways out, for records and requests. No I/O, no clock, no log."""

from collections.abc import Mapping
from typing import Protocol

from shards.core.feed import State
from shards.core.record_builder import Outbox, Request, Speaker
from shards.protocol.frames import Record


class _Feed(Speaker, Protocol):
    """What is asked of a feed, of whichever kind."""

    @property
    def state(self) -> State: ...


class Outgoing:
    """The out-tray of one shard, and whose it is."""

    outbox: Outbox

    def _all(self) -> Mapping[str, _Feed]:
        """Return the feeds by market id."""
        raise NotImplementedError

    @property
    def has_requests(self) -> bool:
        """Whether `take_requests` would return anything."""
        return bool(self.outbox.requests)

    def take_records(self) -> list[Record]:
        """Return the frames made since the last call, and forget them."""
        outbox = self.outbox
        records, outbox.records = outbox.records, []
        return records

    def take_requests(self) -> list[Request]:
        """Return what has to be fetched, and forget it."""
        outbox = self.outbox
        requests, outbox.requests = outbox.requests, []
        return requests

    def keyframes(self, ts: int) -> None:
        """Give the aggregator every book and every state again: it is a new one."""
        for feed in self._all().values():
            if feed.sync.is_wanted and feed.sync.in_sync:
                self.outbox.keyframe(feed, ts)
        self.outbox.states()

    def live(self) -> int:
        """Count the live markets."""
        return sum(feed.state is State.LIVE for feed in self._all().values())
