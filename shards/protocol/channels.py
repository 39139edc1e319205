"""
The channels, one row each: what a channel carries, how its facts are told apart, how it prints.

This table is the only place that defines channels. The kinds and decoders of `frames`,
``--channel``, `collector capabilities` and the table in docs/operations.md are built from these
rows; shard, aggregator and subscriber deduplicate by them. Each adapter states which channels it
gives and what it promises for them (adapters/registry.py). Pure.
"""

import enum
from collections.abc import Callable
from typing import Any, Final

import msgspec

from shards.protocol import event_text
from shards.protocol.events import (
    Book,
    Divergence,
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
    """When two events of one topic are the same fact, which must be delivered once."""

    SEQUENCE = "sequence"
    """Known if its ``sequence`` is not above the last one; heights may repeat."""
    HEIGHT = "height"
    """Known if its ``height`` is not above the last one: one event per block."""
    TRADES = "trades"
    """By height, or each trade by its id; the source decides (trade_ids.py)."""
    GAP = "gap"
    """Known if its ``(gap_id, state, first, last)`` was already delivered."""
    VALUE = "value"
    """Known if it equals the last one except for its timestamps."""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel."""

    name: str
    kind: int
    """Kind of its frames: byte 2 of a body."""
    event: type[Event]
    topic: str
    identity: Identity
    text: Callable[[Any], str]
    """Describes an event of it in one line, for people (event_text.py)."""
    is_state: bool = False
    """Conflated: the newest event replaces the older ones; a late joiner receives it."""
    is_default: bool = False
    """Collected unless other channels are chosen."""
    is_offered: bool = True
    """Whether it can be chosen; gaps are always announced."""
    needs_book: bool = False
    """Derived from a book, which must then be kept."""
    is_extra: bool = False
    """Beyond trades and books: sources decode it only if it was chosen."""
    is_chain_wide: bool = False
    """Belongs to no market: one feed for the whole chain provides it."""
    is_replayed: bool = True
    """Replayed with a lost block; otherwise the newest event is sent again."""
    items: str = ""
    """The event's list field; a record counts its items. Empty: each event counts 1."""
    lost: str = ""
    """What happens to it in lost blocks, as text for people."""


CHANNELS: Final = (
    Channel(
        name="book",
        kind=1,
        event=Book,
        topic="book.SYMBOL.",
        identity=Identity.SEQUENCE,
        text=event_text.book,
        is_default=True,
        needs_book=True,
        lost="replayed exactly; if no node has the block any more, a snapshot follows",
    ),
    Channel(
        name="trades",
        kind=2,
        event=Trades,
        topic="trades.SYMBOL.",
        identity=Identity.TRADES,
        text=event_text.trades,
        is_default=True,
        items="trades",
        lost="replayed exactly; from an indexer if no node has the block any more",
    ),
    Channel(
        name="gap",
        kind=3,
        event=Gap,
        topic="gap.SYMBOL.",
        identity=Identity.GAP,
        text=event_text.gap,
        is_offered=False,
    ),
    Channel(
        name="divergence",
        kind=10,
        event=Divergence,
        topic="divergence.SYMBOL.",
        identity=Identity.VALUE,
        text=event_text.divergence,
        is_offered=False,
        is_replayed=False,
    ),
    Channel(
        name="ticker",
        kind=4,
        event=Ticker,
        topic="ticker.SYMBOL.",
        identity=Identity.SEQUENCE,
        text=event_text.ticker,
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
        text=event_text.orders,
        is_extra=True,
        items="orders",
        lost="replayed exactly; announced as missing if no node has the block any more",
    ),
    Channel(
        name="oracle",
        kind=5,
        event=Oracle,
        topic="oracle.SYMBOL.",
        identity=Identity.HEIGHT,
        text=event_text.oracle,
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
        text=event_text.funding,
        is_state=True,
        is_replayed=False,
        lost="not replayed: the next answer is complete",
    ),
    Channel(
        name="markets",
        kind=7,
        event=Metadata,
        topic="markets.SYMBOL.",
        identity=Identity.VALUE,
        text=event_text.metadata,
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
        text=event_text.block,
        is_state=True,
        is_chain_wide=True,
        lost="published when they are replayed, with source replay",
    ),
)
"""In display order."""

OFFERED: Final = tuple(channel for channel in CHANNELS if channel.is_offered)
NAMES: Final = tuple(channel.name for channel in OFFERED)
ALWAYS: Final = tuple(channel.name for channel in CHANNELS if not channel.is_offered)
"""Channels that cannot be chosen: every collector publishes them."""
DEFAULT_CHANNELS: Final = tuple(channel.name for channel in CHANNELS if channel.is_default)
BY_NAME: Final = {channel.name: channel for channel in CHANNELS}
BY_KIND: Final = {channel.kind: channel for channel in CHANNELS}
BY_EVENT: Final[dict[type, Channel]] = {channel.event: channel for channel in CHANNELS}

BOOKS: Final = frozenset(channel.name for channel in CHANNELS if channel.needs_book)
EXTRAS: Final = frozenset(channel.name for channel in CHANNELS if channel.is_extra)
CHAIN_WIDE: Final = frozenset(channel.name for channel in CHANNELS if channel.is_chain_wide)
