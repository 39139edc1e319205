"""
What a subscriber delivers: the exchange's events, and events about the connection.

Besides the published events (shards/protocol/events.py) there are `Joined`, `Lost`, `Unanswered`
and `ChainReplaced`, which the subscriber creates itself. They are never on the wire.
"""

from typing import Literal, TypeAlias

import msgspec

from shards.protocol import events


class Joined(msgspec.Struct, frozen=True, gc=False):
    """The aggregator answers: at the start, after it was silent, and after its restart."""

    publisher_epoch: int
    head: int
    """Height through which everything published is complete."""
    topics: int
    """Number of its topics that match this subscription."""
    unmatched: tuple[str, ...] = ()
    """Requested names and globs that match none of its topics yet."""


class Lost(msgspec.Struct, frozen=True, gc=False):
    """
    Facts of this topic that can no longer be delivered.

    A book is out of sync from here to the next ``is_snapshot`` event, which follows automatically.
    """

    unit: Literal["height", "sequence"]
    """``sequence`` for a book topic (the book's own); ``height`` for others."""
    first: int
    last: int
    reason: str


class Unanswered(msgspec.Struct, frozen=True, gc=False):
    """The aggregator has not answered for this long; a `Joined` follows when it does."""

    silent_s: float


class ChainReplaced(msgspec.Struct, frozen=True, gc=False):
    """
    Another chain replaced the one being collected, at the same addresses.

    Nothing delivered before belongs to what follows: heights and sequences start over, and each
    book with a snapshot.
    """

    former_head: int
    """Height through which everything published of the former chain was complete."""


Event: TypeAlias = events.Event | Joined | Lost | Unanswered | ChainReplaced


class Received(msgspec.Struct, frozen=True, gc=False):
    """One event with its frame's header (docs/wire-format.md) and the time of receipt."""

    topic: str
    """Empty in `Joined` and `Unanswered`."""
    channel: str
    symbol: str
    event: Event
    publisher_epoch: int = 0
    topic_sequence: int = 0
    ts_pub: int = 0
    ts_push: int = 0
    shard: int = 0
    epoch: int = 0
    frame_sequence: int = 0
    ts_sub: int = 0
    """When this process read it from its socket, ns since the epoch."""
    healed: bool = False
    """Delivered by a replay, so its latency is meaningless."""
    publisher: str = ""
    """Of several cells, the publish endpoint of the one that had it first; empty with one."""
    body: bytes = b""
    """Of the change of a book that is in sync, the frame's body as it came; else empty."""

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__[:-1])
        return f"Received({', '.join(shown)})"


def notice(event: Event) -> str:
    """Say for the log that a collector answers, or does not; empty for all other events."""
    match event:
        case Joined(topics=topics, head=head):
            return f"answers: {topics} topics, complete through height {head}"
        case Unanswered(silent_s=silent_s):
            return f"has not answered for {silent_s:.0f} s"
    return ""
