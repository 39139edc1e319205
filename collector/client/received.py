"""
What a subscriber is handed: the exchange's events, and what happened on the way to them.

Besides the published events (shards/protocol/events.py) there are three of the subscriber's own:
`Joined`, `Lost` and `Unanswered`. They are never on the wire.
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
    """How many of its topics are wanted here."""
    unmatched: tuple[str, ...] = ()
    """What was asked for by name or glob, and matches none of its topics so far."""


class Lost(msgspec.Struct, frozen=True, gc=False):
    """
    What this topic may have carried and nobody can deliver any more.

    A book is out of order from here to the next ``is_snapshot``, which follows by itself.
    """

    unit: Literal["height", "sequence"]
    """``sequence`` on a book topic: the book's own; ``height`` on others."""
    first: int
    last: int
    reason: str


class Unanswered(msgspec.Struct, frozen=True, gc=False):
    """The aggregator has not answered for so long; a `Joined` follows once it does."""

    silent_s: float


class ChainReplaced(msgspec.Struct, frozen=True, gc=False):
    """
    Another chain took the place of the one that was collected, under the same addresses.

    Nothing that was delivered before belongs to what follows: heights and sequences begin again,
    each book with a whole one.
    """

    former_head: int
    """Height through which everything published of the former one was complete."""


Event: TypeAlias = events.Event | Joined | Lost | Unanswered | ChainReplaced


class Received(msgspec.Struct, frozen=True, gc=False):
    """One event with its frame's header (docs/wire-format.md) and the time it came here."""

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
    """When this process took it from its socket, ns since the epoch."""
    healed: bool = False
    """Asked for after the fact, so its latency says nothing."""
