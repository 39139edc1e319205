"""Decode published bodies: the header at fixed offsets, then the event."""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from shards.protocol.errors import UNREADABLE, SequenceGap
from shards.protocol.events import Book, Event, Orders, Trades
from shards.protocol.frames import EVENTS, PREFIX_SIZE, VERSION
from shards.protocol.order_book import OrderBook

Header: TypeAlias = tuple[int, int, int, int, int, int, int]
"""publisher_epoch, topic_sequence, ts_pub, ts_push, shard, epoch, frame_sequence."""

# The offsets are drawn in shards/frames.py.
read_header: Final = struct.Struct(">4xQxQxQxQxHxQxQ").unpack_from
_FIRST: Final = bytes((0x9A, VERSION))


def is_readable(body: bytes) -> bool:
    """Whether this is a body of the version that this code reads."""
    return body[:2] == _FIRST and len(body) > PREFIX_SIZE


def other_version(body: bytes) -> int | None:
    """Return a body's version if it differs from ours, else None."""
    if len(body) < 2 or body[0] != _FIRST[0] or body[1] == VERSION:
        return None
    return body[1]


def decode_event(body: bytes) -> Event | None:
    """Decode the event; None if it is garbage, or of a kind newer than this code."""
    decoder = EVENTS.get(body[2])
    if decoder is None:
        return None
    try:
        event: Event = decoder.decode(memoryview(body)[PREFIX_SIZE:])
    except UNREADABLE:
        return None
    return event


def load_or_apply(book: OrderBook, event: Book) -> None:
    """
    Apply an event of the book's topic to a book.

    Raises:
        SequenceGap: If the event is a delta that does not follow.

    """
    if event.is_snapshot:
        book.load(event.sequence, event.bids, event.asks)
        book.market_id = event.market_id
    else:
        book.apply(event.sequence, event.bids, event.asks)


def first_trades(bodies: Sequence[bytes], otherwise: int) -> int:
    """
    Return the height of the first body, if it carries trades or orders.

    A block's trades are in one frame, so their topic is complete from that height on, even if
    other topics of the block are not. The same holds for orders.
    """
    if bodies and is_readable(bodies[0]):
        event = decode_event(bodies[0])
        if isinstance(event, Trades | Orders):
            return event.height
    return otherwise


class Whole(NamedTuple):
    """A composed book, and the header of the last body in it."""

    header: Header
    event: Book


def compose(bodies: Sequence[bytes], topic_sequence: int) -> Whole | None:
    """Compose a whole book from a snapshot and its deltas; None if they do not fit."""
    book = OrderBook("")
    whole: Whole | None = None
    for body in bodies:
        if not is_readable(body):
            return None
        header, event = read_header(body), decode_event(body)
        if header[1] > topic_sequence:
            break
        if not isinstance(event, Book):
            return None
        try:
            load_or_apply(book, event)
        except SequenceGap:
            return None
        whole = Whole(header, event)
    if whole is None:
        return None
    bids, asks = book.levels()
    event = msgspec.structs.replace(whole.event, is_snapshot=True, bids=bids, asks=asks)
    return Whole(whole.header, event)
