"""
The channels, one row each: what a channel carries and how its facts are told apart.

The one place that says so. The kinds and decoders of `frames`, `--channel`, `collector
capabilities` and the table in docs/operations.md are made of these rows; the shard, the
aggregator and the subscriber tell facts apart by them. Which source gives a channel, and
what it promises there, is the adapters' to say (adapters/registry.py). Pure.
"""

import enum
from typing import Final

import msgspec

from shards.protocol.events import (
    Book,
    Event,
    Funding,
    Gap,
    Metadata,
    Oracle,
    Orders,
    Pulse,
    Ticker,
    Trades,
)


class Identity(enum.Enum):
    """When two events of one topic are the same fact, which is to be delivered once."""

    SEQUENCE = "sequence"
    """Known if its ``sequence`` is not above the last one: heights may repeat."""
    HEIGHT = "height"
    """Known if its ``height`` is not above the last one: one event a block."""
    TRADES = "trades"
    """By height, or each trade by its id: the source decides (trade_ids.py)."""
    GAP = "gap"
    """Known if its ``(gap_id, state, first, last)`` was delivered."""
    VALUE = "value"
    """Known if nothing but its instants differs from the last one."""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel."""

    name: str
    kind: int
    """Of its frames, byte 2 of a body."""
    event: type[Event]
    topic: str
    identity: Identity
    is_state: bool = False
    """Conflated: the newest event is all there is to know, and a late joiner is given it."""
    is_default: bool = False
    """Collected unless something else is asked for."""
    is_offered: bool = True
    """Whether it can be asked for; gaps are announced in any case."""
    needs_book: bool = False
    """Made of a book, which has to be kept for it."""
    is_extra: bool = False
    """Beyond trades and books: sources decode it only where it is asked for."""
    is_chain_wide: bool = False
    """It belongs to no market: one feed of the whole chain gives it."""
    is_replayed: bool = True
    """A lost block brings it again; otherwise the newest event is sent again."""
    items: str = ""
    """The event's list, whose length a record counts; without one it counts 1."""
    lost: str = ""
    """What becomes of it in blocks that were lost, for people."""


CHANNELS: Final = (
    Channel(
        name="book",
        kind=1,
        event=Book,
        topic="book.SYMBOL.",
        identity=Identity.SEQUENCE,
        is_default=True,
        needs_book=True,
        lost="replayed exactly; where no node has the block any more, a whole book follows",
    ),
    Channel(
        name="trades",
        kind=2,
        event=Trades,
        topic="trades.SYMBOL.",
        identity=Identity.TRADES,
        is_default=True,
        items="trades",
        lost="replayed exactly, from an indexer where no node has the block any more",
    ),
    Channel(
        name="gap",
        kind=3,
        event=Gap,
        topic="gap.SYMBOL.",
        identity=Identity.GAP,
        is_offered=False,
    ),
    Channel(
        name="ticker",
        kind=4,
        event=Ticker,
        topic="ticker.SYMBOL.",
        identity=Identity.SEQUENCE,
        is_state=True,
        needs_book=True,
        lost="with the book",
    ),
    Channel(
        name="orders",
        kind=9,
        event=Orders,
        topic="orders.SYMBOL.",
        identity=Identity.HEIGHT,
        is_extra=True,
        items="orders",
        lost="replayed exactly; announced as missing where no node has the block any more",
    ),
    Channel(
        name="oracle",
        kind=5,
        event=Oracle,
        topic="oracle.SYMBOL.",
        identity=Identity.HEIGHT,
        is_state=True,
        is_extra=True,
        is_chain_wide=True,
        lost="replayed from the oracles' own events",
    ),
    Channel(
        name="funding",
        kind=6,
        event=Funding,
        topic="funding.SYMBOL.",
        identity=Identity.HEIGHT,
        is_state=True,
        is_replayed=False,
        lost="not replayed: the next answer has all of it",
    ),
    Channel(
        name="markets",
        kind=7,
        event=Metadata,
        topic="markets.SYMBOL.",
        identity=Identity.VALUE,
        is_state=True,
        is_replayed=False,
        lost="not concerned",
    ),
    Channel(
        name="blocks",
        kind=8,
        event=Pulse,
        topic="blocks.chain.",
        identity=Identity.HEIGHT,
        is_state=True,
        is_chain_wide=True,
        lost="told when they are replayed, source replay",
    ),
)
"""In the order in which they are shown."""

OFFERED: Final = tuple(channel for channel in CHANNELS if channel.is_offered)
NAMES: Final = tuple(channel.name for channel in OFFERED)
DEFAULT_CHANNELS: Final = tuple(channel.name for channel in CHANNELS if channel.is_default)
BY_NAME: Final = {channel.name: channel for channel in CHANNELS}
BY_KIND: Final = {channel.kind: channel for channel in CHANNELS}
BY_EVENT: Final = {channel.event: channel for channel in CHANNELS}

BOOKS: Final = frozenset(channel.name for channel in CHANNELS if channel.needs_book)
EXTRAS: Final = frozenset(channel.name for channel in CHANNELS if channel.is_extra)
CHAIN_WIDE: Final = frozenset(channel.name for channel in CHANNELS if channel.is_chain_wide)
