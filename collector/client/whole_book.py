"""Build a book from published bodies: a snapshot, and the deltas after it."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from shards.protocol.errors import SequenceGap
from shards.protocol.events import Book, Orders, Trades
from shards.protocol.frames import Header, decode_event, is_readable, read_header
from shards.protocol.order_book import OrderBook


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
    not_before: int
    """Height that it has at least: the newest that a body in it named."""


def compose(bodies: Sequence[bytes], topic_sequence: int) -> Whole | None:
    """Compose a whole book from a snapshot and its deltas; None if they do not fit."""
    book = OrderBook("")
    whole: Whole | None = None
    height = 0
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
        height = event.height or height
        whole = Whole(header, event, height)
    if whole is None:
        return None
    bids, asks = book.levels()
    event = msgspec.structs.replace(whole.event, is_snapshot=True, bids=bids, asks=asks)
    return Whole(whole.header, event, height)
