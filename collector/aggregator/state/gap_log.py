"""The gaps of one market as they were announced: how many, and the one that is open. Pure."""

import msgspec

from shards.protocol.events import Gap


class GapLife(msgspec.Struct, array_like=True):
    """
    What was said of one market's gaps.

    A shard that takes over from a dead one takes over its open gap too, so that every
    opening that subscribers heard of is closed when it is healed, by whoever heals it.
    """

    opened: int = 0
    closed: int = 0
    newest: int = 0
    """Id of the newest gap; ids grow."""
    gap: Gap | None = None
    """The one that is open."""

    def tell(self, event: Gap) -> None:
        """Take a gap frame; one that is told again, after a restart of ours, counts once."""
        known = self.gap is not None and self.gap.gap_id == event.gap_id
        if event.state == "closed":
            if known:
                self.closed += 1
                self.gap = None
        elif event.gap_id > self.newest:
            self.opened += 1
            self.newest = event.gap_id
            self.gap = event
        elif known:
            # The same gap, with heights that were not known before.
            self.gap = event
