"""The gaps of one market as they were announced: how many, and the one that is open. Pure."""

from typing import Final

import msgspec

from shards.protocol.events import Gap

_RECENT: Final = 64
"""More than a market opens within the minute that is pushed to a new aggregator again."""


class GapLife(msgspec.Struct, array_like=True):
    """
    What was said of one market's gaps.

    A shard that takes over from a dead one takes over its open gap too, so that every
    opening that subscribers heard of is closed when it is healed, by whoever heals it.
    """

    opened: int = 0
    closed: int = 0
    newest: int = 0
    """The greatest id of a gap."""
    gap: Gap | None = None
    """The one that is open."""
    recent: list[int] = []
    """Ids of the newest gaps: one of them that comes again is no other. Another id is another
    gap, also where it is smaller, because the clock was set back."""

    def tell(self, event: Gap) -> None:
        """Take a gap frame; one that is told again, after a restart of ours, counts once."""
        known = self.gap is not None and self.gap.gap_id == event.gap_id
        if event.state == "closed":
            if known:
                self.closed += 1
                self.gap = None
        elif known:
            # The same gap, with heights that were not known before.
            self.gap = event
        elif event.gap_id != self.newest and event.gap_id not in self.recent:
            self.opened += 1
            self.newest = max(self.newest, event.gap_id)
            self.recent = [*self.recent[1 - _RECENT :], event.gap_id]
            self.gap = event
