"""The announced gaps of one market: their number, and the open one. Pure."""

from typing import Final

import msgspec

from shards.protocol.events import Gap

_RECENT: Final = 64
"""More than a market opens within the minute that is pushed to a new aggregator again."""


class GapLog(msgspec.Struct, array_like=True):
    """
    The announced gaps of one market.

    A shard that succeeds a dead one takes over its open gap, so that every announced opening is
    closed when the gap is filled, whichever shard fills it.
    """

    opened: int = 0
    closed: int = 0
    newest: int = 0
    """The highest gap id."""
    gap: Gap | None = None
    """The open one."""
    recent: list[int] = []
    """Ids of the newest gaps; one that arrives again is the same gap. Any other id is another gap,
    even if it is lower, because the clock may have been set back."""

    def apply(self, event: Gap) -> None:
        """Take a gap frame; one that is sent again, after our restart, counts once."""
        known = self.gap is not None and self.gap.gap_id == event.gap_id
        if event.state == "closed":
            if known:
                self.closed += 1
                self.gap = None
        elif known:
            # The same gap, with more heights known.
            self.gap = event
        elif event.gap_id != self.newest and event.gap_id not in self.recent:
            self.opened += 1
            self.newest = max(self.newest, event.gap_id)
            self.recent = [*self.recent[1 - _RECENT :], event.gap_id]
            self.gap = event
