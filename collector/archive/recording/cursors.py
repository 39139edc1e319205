"""The part of a topic's position that the journal keeps. Pure."""

from collector.archive.journal.segment_file import Cursor
from collector.client.topic_cursor import Position


def cursor_of(position: Position) -> Cursor:
    """Return the part of a position that the journal keeps."""
    return Cursor(
        position.topic,
        position.publisher_epoch,
        position.sequence,
        position.complete,
        position.floor,
        position.fact,
        position.in_sync and position.linked,
        position.chain,
        position.place,
        position.is_ended,
    )


def position_of(cursor: Cursor) -> Position:
    """Return the position that a cursor was made of."""
    position = Position(cursor.topic, cursor.publisher_epoch, cursor.sequence, cursor.complete)
    position.floor, position.fact = cursor.floor, cursor.fact
    position.in_sync, position.chain = cursor.in_sync, cursor.chain
    position.place = cursor.count or position.place
    position.is_ended = cursor.is_ended
    return position
