"""What one feed has heard from its source, and what it is owed (liveness.py)."""

from collections.abc import Sequence

from shards.protocol.events import Block, Cause, Gap, Snapshot
from shards.protocol.frames import Record


class Track:
    """What one feed has heard, and what it is owed; instants are ns and come in as arguments."""

    is_confirmed = False
    """Whether the source is known to serve the market."""
    has_heights = True
    """Whether the source names the block of a change of the book."""
    held = 0
    """Blocks that wait until earlier ones are replayed."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing but perhaps the book is owed."""
        raise NotImplementedError

    def subscribed(self, subscription: int, ts: int) -> None:
        """A subscription is being asked for."""

    def confirmed(self, subscription: int, ts: int) -> None:
        """It was accepted."""

    def unsubscribed(self, subscription: int) -> None:
        """It is not heard any more."""

    def refused(self) -> None:
        """The source refused it, or ended it."""

    def receive(self, block: Block, ts_recv: int) -> None:
        """Take a block of this market."""
        raise NotImplementedError

    def resume(self, ts: int, gap: Gap | None) -> None:
        """Take up a market whose ledger another process left, and its gap."""
        raise NotImplementedError

    def lose(self, cause: Cause, ts: int, reason: str = "") -> None:
        """The source tells no more of it, or not everything; what is missed is owed."""
        raise NotImplementedError

    def rewind(self, height: int, records: Sequence[Record], ts: int) -> None:
        """Frames never left the process, these, from ``height`` on: have their facts again."""
        raise NotImplementedError

    def moved(self) -> None:
        """The feed's state has changed."""

    def lost_book(self) -> None:
        """The book is out of step."""

    def may_join(self, snapshot: Snapshot, ts: int) -> bool:
        """Say whether a fetched book can be the newer one at all."""
        return True

    def not_joined(self, snapshot: Snapshot) -> None:
        """A fetched book was too old."""

    def joined(self, before: int, snapshot: Snapshot, ts: int) -> None:
        """A fetched book has joined; ``before`` is the sequence that ours had."""

    def went_live(self, ts: int) -> None:
        """Nothing is owed any more: close the gap."""

    def flush(self) -> None:
        """Publish what is held back."""
