"""
Many changes of one book at once: from their encoded events to a table's columns. Pure.

Everything is done column by column, for a row by itself takes three times as long. Levels stay encoded
until they are columns as well (`book_sides.py`).
"""

from collections.abc import Sequence
from functools import cached_property
from types import GenericAlias
from typing import Any, Final, NamedTuple

import msgspec

from collector.tables.book_sides import Encoded, Sides, sides_of
from collector.tables.rows import Arrival
from shards.protocol.events import Book, Level

_SIDES: Final = ("bids", "asks")
_BEFORE_SIDES: Final = 7
"""Fields of a book's event that stand before its sides."""
_ROW: Final = GenericAlias(
    tuple,
    tuple(
        msgspec.Raw if field.name in _SIDES else field.type
        for field in msgspec.structs.fields(Book)
    ),
)
"""A book's event as a tuple: tuples become columns in one call."""
_decode: Final = msgspec.msgpack.Decoder(list[_ROW]).decode  # type: ignore[valid-type]
_decode_books: Final = msgspec.msgpack.Decoder(list[Book]).decode
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_sides: Final = msgspec.msgpack.Decoder(list[list[Level]]).decode


class Fields(NamedTuple):
    """The columns of some changes, in order: the fields of their events, and how they came."""

    market_ids: Sequence[str]
    heights: Sequence[int]
    sequences: Sequence[int]
    ts_events: Sequence[int]
    ts_recvs: Sequence[int]
    sources: Sequence[str]
    are_snapshots: Sequence[bool]
    bids: Encoded
    asks: Encoded
    arrivals: Sequence[Arrival]


class Changes:
    """Some changes of one book."""

    def __init__(self, fields: Fields) -> None:
        self.fields = fields

    def __len__(self) -> int:
        return len(self.fields.arrivals)

    def at(self, places: list[int]) -> "Changes":
        """Return the changes at one or more places, in their order."""
        first, end = places[0], places[0] + len(places)
        if places == list(range(first, end)):
            return Changes(Fields._make(column[first:end] for column in self.fields))
        chosen = (list(map(column.__getitem__, places)) for column in self.fields)
        return Changes(Fields._make(chosen))

    def events(self) -> list[Book]:
        """Return the events, with an object for each level."""
        plain = self.fields[:_BEFORE_SIDES]
        sides = (_decode_sides(_encode(side)) for side in (self.fields.bids, self.fields.asks))
        return list(map(Book, *plain, *sides))

    @cached_property
    def sides(self) -> Sides:
        """The levels of the bids and the asks."""
        return sides_of(self.fields.bids, self.fields.asks)


def decoded(events: bytes, arrivals: Sequence[Arrival]) -> Changes:
    """
    Decode a MessagePack array of one or more `Book`.

    Raises:
        msgspec.MsgspecError: If it is none; of levels, only once they are used.

    """
    try:
        rows = _decode(events)
    except msgspec.ValidationError:
        # Of a newer version, with fields that this one does not know.
        rows = _decode(_encode(_decode_books(events)))
    return Changes(Fields._make((*zip(*rows, strict=True), arrivals)))


def columns_of(changes: Changes, symbol: str) -> list[Any]:
    """Return the columns of the table ``book``, with the levels in the order of the table."""
    fields = changes.fields
    arrivals = fields.arrivals
    return [
        fields.market_ids,
        [symbol] * len(arrivals),
        _known(fields.heights),
        fields.sequences,
        _known(fields.ts_events),
        fields.are_snapshots,
        *changes.sides.columns(),
        _known(fields.ts_recvs),
        _known([arrival.ts_pub for arrival in arrivals]),
        fields.sources,
        [arrival.shard for arrival in arrivals],
    ]


def facts_of(changes: Changes) -> list[Sequence[Any]]:
    """Return the columns of fact of the table ``book``, for an encoder of MessagePack."""
    fields = changes.fields
    return [
        fields.market_ids,
        _known(fields.heights),
        fields.sequences,
        _known(fields.ts_events),
        fields.are_snapshots,
        *changes.sides.facts(),
    ]


def _known(numbers: Sequence[int]) -> Sequence[int | None]:
    """Replace zeros, which stand for what is not known."""
    return [number or None for number in numbers] if 0 in numbers else numbers
