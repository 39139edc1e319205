"""
What was published: frames read from a `Subscriber`, or from the bodies of a capture.

A capture's bodies are decoded by their documented layout (docs/wire-format.md), with a generic
MessagePack decoder and by position.
"""

from typing import Any, NamedTuple, TypeAlias

import msgspec

from collector.client.received import Lost as LostEvent, Received
from shards.protocol.errors import UNREADABLE
from shards.protocol.events import Book as BookEvent, Gap as GapEvent, Trades as TradesEvent

KIND_BOOK, KIND_TRADES, KIND_GAP = 1, 2, 3


class Trades(NamedTuple):
    """One market's trades in one block, each as its fields in the frame's order."""

    market_id: str
    height: int
    trades: list[tuple[str, ...]]


class Book(NamedTuple):
    """A change to a book, or a whole book; levels as published."""

    market_id: str
    height: int
    sequence: int
    is_snapshot: bool
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class Gap(NamedTuple):
    """An announced gap: ``open`` or ``closed``."""

    market_id: str
    state: str


class Lost(NamedTuple):
    """What could not be delivered to this check, by topic."""

    topic: str
    first: int
    last: int
    reason: str


Published: TypeAlias = Trades | Book | Gap | Lost


def from_received(received: Received) -> Published | None:
    """Convert a `Subscriber`'s event; None for those that are not about a market."""
    event = received.event
    if isinstance(event, TradesEvent):
        rows = [msgspec.structs.astuple(trade) for trade in event.trades]
        return Trades(event.market_id, event.height, rows)
    if isinstance(event, BookEvent):
        place = (event.market_id, event.height, event.sequence)
        return Book(*place, event.is_snapshot, event.bids, event.asks)
    if isinstance(event, GapEvent):
        return Gap(event.market_id, event.state)
    if isinstance(event, LostEvent):
        return Lost(received.topic, event.first, event.last, event.reason)
    return None


def from_body(body: bytes) -> Published | None:
    """
    Decode a captured body; None if its kind is unknown here.

    Raises:
        ValueError: If it is not a body.

    """
    try:
        _, kind, *_, event = msgspec.msgpack.decode(body)
        return _event(kind, event)
    except (*UNREADABLE, TypeError, IndexError) as error:
        raise ValueError(f"not a frame: {error}") from None


def _event(kind: int, event: list[Any]) -> Published | None:
    if kind == KIND_TRADES:
        market_id, height, _, _, _, rows = event[:6]
        # Fields may be appended to a trade in the future.
        return Trades(market_id, height, [tuple(row) for row in rows])
    if kind == KIND_BOOK:
        market_id, height, sequence, _, _, _, is_snapshot, bids, asks = event[:9]
        levels = [[(price, quantity) for price, quantity in side] for side in (bids, asks)]
        return Book(market_id, height, sequence, is_snapshot, *levels)
    if kind == KIND_GAP:
        return Gap(event[0], event[2])
    return None
