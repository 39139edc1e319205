"""
Frames: our own wire, from shard to aggregator to subscriber.

A subscriber receives ZeroMQ multiparts ``[topic, body]``. The topic is ``channel.SYMBOL.``; its
trailing dot keeps ``book.INJ-USDT.`` from matching ``book.INJ-USDT-PERP.``. The body is one
MessagePack array. Its first sixty bytes are at fixed offsets, so that routing needs no
decoding::

    offset  bytes                  element
         0  9a                     array of ten
         1  01                     0  version
         2  kind                   1  kind, one of the KIND_* below (channels.py)
         3  cf + 8 bytes           2  publisher_epoch: another one whenever the aggregator starts
        12  cf + 8                 3  topic_sequence: 1, 2, 3 … per topic and publisher epoch
        21  cf + 8                 4  ts_pub
        30  cf + 8                 5  ts_push
        39  cd + 2                 6  shard
        42  cf + 8                 7  epoch: another one whenever the shard starts
        51  cf + 8                 8  frame_sequence: 1, 2, 3 … per shard and epoch
        60  array                  9  the event, its fields in the order of events.py

Shards send the aggregator *batches*: one ZeroMQ message of two parts, a `BatchHeader` and a
MessagePack array of `Record`. The aggregator puts the sixty bytes before each event. It reads
the records' headers; it decodes an event only where it must: gaps, and trades told apart by id.
"""

import struct
from typing import Final, TypeAlias

import msgspec

from shards.protocol import channels
from shards.protocol.errors import UNREADABLE
from shards.protocol.events import Divergence, Event, Gap, Trades

VERSION: Final = 1

KIND_BY_CHANNEL: Final = {channel.name: channel.kind for channel in channels.CHANNELS}
KIND_BOOK: Final = KIND_BY_CHANNEL["book"]
KIND_TRADES: Final = KIND_BY_CHANNEL["trades"]
KIND_GAP: Final = KIND_BY_CHANNEL["gap"]
KIND_DIVERGENCE: Final = KIND_BY_CHANNEL["divergence"]
KIND_TICKER: Final = KIND_BY_CHANNEL["ticker"]
KIND_ORACLE: Final = KIND_BY_CHANNEL["oracle"]
KIND_FUNDING: Final = KIND_BY_CHANNEL["funding"]
KIND_MARKETS: Final = KIND_BY_CHANNEL["markets"]
KIND_BLOCKS: Final = KIND_BY_CHANNEL["blocks"]
KIND_ORDERS: Final = KIND_BY_CHANNEL["orders"]

SNAPSHOT: Final = 1
"""Record flag: the event needs no earlier one: a whole book, or a state (`STATES`)."""
KEYFRAME: Final = 2
"""Record flag: kept by the aggregator for late joiners, not published."""
LATE: Final = 4
"""Record flag: replayed or held back, so its latency is meaningless."""
BY_ID: Final = 8
"""Record flag: trades may arrive out of order and repeatedly: `TradeIdentity.ID`."""

STATES: Final = frozenset(channel.name for channel in channels.CHANNELS if channel.is_state)
"""Conflated channels: the newest event replaces the older ones, and late joiners receive it."""

_HEAD: Final = struct.Struct(">BBBBQB")
_MIDDLE: Final = struct.Struct(">BQBQBHBQB")
_PREFIX: Final = struct.Struct(f">{_HEAD.size}sQ{_MIDDLE.size}sQ")
PREFIX_SIZE: Final = _PREFIX.size
_KIND_OFFSET: Final = 2
_ts_pub: Final = struct.Struct(">Q").unpack_from

encode: Final = msgspec.msgpack.Encoder().encode


def topic(channel: str, symbol: str) -> str:
    """Return the topic of one market's channel."""
    return f"{channel}.{symbol}."


class Record(msgspec.Struct, array_like=True, gc=False):
    """One frame on its way from a shard to the aggregator."""

    topic: str
    kind: int
    flags: int
    height: int
    sequence: int
    """The book's sequence, also for a ticker. For trades the highest n, if heights tell them
    apart. For a gap its id. Otherwise 0."""
    count: int
    """Events inside: 1, or the number of trades, orders or prices."""
    ts_event: int
    """0 if the event has no block time."""
    ts_recv: int
    event: bytes


class BatchHeader(msgspec.Struct, array_like=True, gc=False):
    """Precedes a batch of records; encoded again for every send."""

    version: int
    shard: int
    epoch: int
    publisher_epoch: int
    """The aggregator that the batch is for; any other refuses it."""
    frame_sequence: int
    """Of the first record; the others follow consecutively."""
    ts_push: int
    resent: bool


class Frame(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The body of a published frame, its event still encoded."""

    version: int
    kind: int
    publisher_epoch: int
    topic_sequence: int
    ts_pub: int
    ts_push: int
    shard: int
    epoch: int
    frame_sequence: int
    event: msgspec.Raw


def head(kind: int, publisher_epoch: int) -> bytes:
    """Build the bytes before the topic sequence: the same for all frames of a kind."""
    return _HEAD.pack(0x9A, VERSION, kind, 0xCF, publisher_epoch, 0xCF)


def middle(ts_pub: int, ts_push: int, shard: int, epoch: int) -> bytes:
    """Build the bytes between the two sequences: the same for all frames of a batch."""
    return _MIDDLE.pack(0xCF, ts_pub, 0xCF, ts_push, 0xCD, shard, 0xCF, epoch, 0xCF)


assemble: Final = _PREFIX.pack
"""Build the sixty bytes before an event from ``(head, topic_sequence, middle, frame_sequence)``.
Packing the parts that a batch shares only once saves two thirds of the cost."""


def prefix(
    kind: int,
    publisher_epoch: int,
    topic_sequence: int,
    ts_pub: int,
    ts_push: int,
    shard: int,
    epoch: int,
    frame_sequence: int,
) -> bytes:
    """Build the sixty bytes before an encoded event in a body."""
    between = middle(ts_pub, ts_push, shard, epoch)
    return assemble(head(kind, publisher_epoch), topic_sequence, between, frame_sequence)


def kind_of(body: bytes) -> int:
    """
    Read a body's kind without decoding it.

    Raises:
        ValueError: If the body is too short, or of an unknown version.

    """
    if len(body) <= PREFIX_SIZE or body[0] != 0x9A:
        raise ValueError("not a frame: too short, or not an array of ten")
    if body[1] != VERSION:
        raise ValueError(f"frame version {body[1]}, but this reader knows only version {VERSION}")
    return body[_KIND_OFFSET]


def ts_pub_of(body: bytes) -> int:
    """Read ``ts_pub`` without decoding the body, which must be complete."""
    return int(_ts_pub(body, 22)[0])


_frames: Final = msgspec.msgpack.Decoder(Frame)
EVENTS: Final[dict[int, msgspec.msgpack.Decoder[Event]]] = {
    channel.kind: msgspec.msgpack.Decoder(channel.event) for channel in channels.CHANNELS
}
"""The decoder of each kind's event."""


def decode(body: bytes) -> tuple[Frame, Event | None]:
    """
    Decode a body; the event is None if its kind is newer than this reader.

    Raises:
        ValueError: If the body is not a frame of a known version
            (`msgspec.DecodeError` is a ValueError).

    """
    kind_of(body)
    frame = _frames.decode(body)
    events = EVENTS.get(frame.kind)
    return frame, None if events is None else events.decode(frame.event)


# ---- a subscriber's side: the header at fixed offsets, then the event ---------------------

Header: TypeAlias = tuple[int, int, int, int, int, int, int]
"""publisher_epoch, topic_sequence, ts_pub, ts_push, shard, epoch, frame_sequence."""
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
        return decoder.decode(memoryview(body)[PREFIX_SIZE:])
    except UNREADABLE:
        return None


# ---- between shard and aggregator ---------------------------------------------------------

decode_trades: Final = msgspec.msgpack.Decoder(Trades).decode
decode_gap: Final = msgspec.msgpack.Decoder(Gap).decode
decode_divergence: Final = msgspec.msgpack.Decoder(Divergence).decode
_batches: Final = msgspec.msgpack.Decoder(list[Record])
_headers: Final = msgspec.msgpack.Decoder(BatchHeader)
decode_records: Final = _batches.decode
decode_header: Final = _headers.decode
