"""The topics on their way out: what each has published, so that each fact goes out once."""

import msgspec

from collector.aggregator.replay_buffer import KeptTopic
from collector.aggregator.state.coverage import UNOWNED
from shards.protocol import frames
from shards.protocol.frames import KIND_BOOK, KIND_TICKER, SNAPSHOT, Record
from shards.protocol.trade_ids import KnownTrades


class Lane:
    """One topic on its way out."""

    __slots__ = (
        "began_at",
        "count",
        "height",
        "kept",
        "known",
        "market_id",
        "sequence",
        "shard",
        "topic",
        "topic_sequence",
    )

    def __init__(self, topic: str, market_id: str) -> None:
        self.topic = topic.encode()
        self.kept: KeptTopic | None = None
        """Its newest frames, from the first one on (replay_buffer.py)."""
        self.market_id = market_id
        self.shard = UNOWNED
        """Whose frames are published."""
        self.topic_sequence = 0
        self.height = 0
        self.sequence = 0
        """Of the book, or of the last gap."""
        self.began_at = 0
        """Height of the whole book with which the book's sequence began again; 0 if it never did."""
        self.count = 0
        self.known: KnownTrades | None = None
        """Only where trades are told apart by their ids."""


def is_new_book(lane: Lane, record: Record) -> bool:
    """
    Say whether a book topic has not had this change or whole book; a ticker alike.

    The sequence decides. A whole book of a later block whose sequence is not above ours shows
    that the sequence began again: from then on only what is of later blocks is new.
    """
    if record.sequence > lane.sequence:
        return record.height >= lane.began_at or not record.height
    if not record.flags & SNAPSHOT:
        return False
    if record.sequence < lane.sequence and record.height > lane.height > 0:
        lane.began_at = record.height
        return True
    return record.kind == KIND_BOOK and record.sequence == lane.sequence


def is_known(lane: Lane, record: Record) -> bool:
    """Say whether a topic that is neither book nor trades has had this fact, or a later one."""
    if record.kind == KIND_TICKER:
        # Two of one height differ: the book was fetched anew in between.
        return not is_new_book(lane, record)
    return record.height <= lane.height


def unknown(lane: Lane, record: Record) -> Record | None:
    """
    Leave out of a record the trades that went out before; None if all did.

    A source that tells trades one by one brings some late, and a shard that takes over lists
    again what its predecessor may have published: their heights say nothing, their ids do.
    """
    if lane.known is None:
        lane.known = KnownTrades()
    event = frames.decode_trades(record.event)
    fresh = lane.known.take(event.trades)
    if len(fresh) == len(event.trades):
        return record
    if not fresh:
        return None
    event = msgspec.structs.replace(event, trades=fresh)
    return msgspec.structs.replace(record, count=len(fresh), event=frames.encode(event))
