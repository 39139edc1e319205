"""What one feed has received from its source, and what is outstanding (liveness.py)."""

from collections.abc import Sequence

from shards.protocol.events import Block, Cause, Gap, Snapshot
from shards.protocol.frames import Record


class Track:
    """Progress of one feed. All instants are ns and are passed as arguments."""

    is_confirmed = False
    """Whether the source is known to serve the market."""
    has_heights = True
    """Whether the source gives the height of a book change."""
    postpones_book = False
    """Whether no snapshot can join until lost blocks are replayed."""
    held = 0
    """Blocks held until earlier ones are replayed."""

    is_steady = False
    """Whether nothing of it changes that is reported, except that its ledger moves on. A track that
    ceases to be steady, or becomes so, is noted in `RecordBuilder.moved`: a report looks at it."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is outstanding, except possibly the book."""
        raise NotImplementedError

    def subscribed(self, subscription: int, ts: int) -> None:
        """A subscription is being requested."""

    def confirmed(self, subscription: int, ts: int) -> None:
        """The subscription was accepted."""

    def unsubscribed(self, subscription: int) -> None:
        """The subscription ended."""

    def refused(self) -> None:
        """The source refused or ended the subscription."""

    def receive(self, block: Block, ts_recv: int) -> None:
        """Take a block of this market."""
        raise NotImplementedError

    def resume(self, ts: int, gap: Gap | None) -> None:
        """Resume a market whose ledger another process left, with its gap."""
        raise NotImplementedError

    def lose(self, cause: Cause, ts: int, reason: str = "") -> None:
        """The source stopped sending, or sends incompletely; what is missed is outstanding."""
        raise NotImplementedError

    def rewind(self, height: int, records: Sequence[Record], ts: int) -> None:
        """These frames, from ``height`` on, never left the process: restore their facts."""
        raise NotImplementedError

    def moved(self) -> None:
        """The feed's state has changed."""

    def lost_book(self) -> None:
        """The book is out of sync."""

    def may_join(self, snapshot: Snapshot, ts: int) -> bool:
        """Return whether a fetched snapshot can possibly join."""
        return True

    def not_joined(self, snapshot: Snapshot) -> None:
        """A fetched snapshot was too old."""

    def postpone_book(self) -> None:
        """No server has the book of the requested height."""

    def joined(self, before: int, snapshot: Snapshot, ts: int) -> None:
        """A fetched snapshot has joined; ``before`` is the sequence that our book had."""

    def went_live(self, ts: int) -> None:
        """Nothing is outstanding any more: close the gap."""

    def flush(self) -> None:
        """Publish what is being held back."""
