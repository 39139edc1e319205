"""
Frames: our own wire, from shard to aggregator to subscriber.

A subscriber receives ZeroMQ multiparts ``[topic, body]``. The topic is
``channel.SYMBOL.``; its trailing dot keeps ``book.INJ-USDT.`` from matching
``book.INJ-USDT-PERP.``. The body is one MessagePack array, whose first sixty bytes
stand at fixed offsets, so that nobody needs to decode it to route it::

    offset  bytes                  element
         0  9a                     array of ten
         1  01                     0  version
         2  kind                   1  kind, one of the KIND_* below (channels.py)
         3  cf + 8 bytes           2  publisher_epoch: grows when the aggregator starts
        12  cf + 8                 3  topic_sequence: 1, 2, 3 … per topic and publisher epoch
        21  cf + 8                 4  ts_pub
        30  cf + 8                 5  ts_push
        39  cd + 2                 6  shard
        42  cf + 8                 7  epoch: grows when the shard starts
        51  cf + 8                 8  frame_sequence: 1, 2, 3 … per shard and epoch
        60  array                  9  the event, its fields in the order of events.py

Between shard and aggregator a *batch* travels, one ZeroMQ message of two parts: a
`BatchHeader` and a MessagePack array of `Record`. The aggregator reads the records'
headers, never the event inside, and puts the sixty bytes before it.
"""

import struct
from typing import Final

import msgspec

from shards.protocol import channels
from shards.protocol.events import Event, Gap, Trades

VERSION: Final = 1

KIND_BY_CHANNEL: Final = {channel.name: channel.kind for channel in channels.CHANNELS}
KIND_BOOK: Final = KIND_BY_CHANNEL["book"]
KIND_TRADES: Final = KIND_BY_CHANNEL["trades"]
KIND_GAP: Final = KIND_BY_CHANNEL["gap"]
KIND_TICKER: Final = KIND_BY_CHANNEL["ticker"]
KIND_ORACLE: Final = KIND_BY_CHANNEL["oracle"]
KIND_FUNDING: Final = KIND_BY_CHANNEL["funding"]
KIND_MARKETS: Final = KIND_BY_CHANNEL["markets"]
KIND_BLOCKS: Final = KIND_BY_CHANNEL["blocks"]
KIND_ORDERS: Final = KIND_BY_CHANNEL["orders"]

SNAPSHOT: Final = 1
"""Record flag: the event needs none before it: a whole book, or a state (`STATES`)."""
KEYFRAME: Final = 2
"""Record flag: for the aggregator's late joiners only, not to be published."""
LATE: Final = 4
"""Record flag: replayed, or held back for something else: its latency says nothing."""
BY_ID: Final = 8
"""Record flag: trades that may come in any order and more than once: `TradeIdentity.ID`."""

STATES: Final = frozenset(channel.name for channel in channels.CHANNELS if channel.is_state)
"""Channels whose newest event is all there is to know: a late joiner is given it."""

_HEAD: Final = struct.Struct(">BBBBQB")
_MIDDLE: Final = struct.Struct(">BQBQBHBQB")
_PREFIX: Final = struct.Struct(f">{_HEAD.size}sQ{_MIDDLE.size}sQ")
PREFIX_SIZE: Final = _PREFIX.size
_KIND_OFFSET: Final = 2
_ts_pub: Final = struct.Struct(">Q").unpack_from

encode: Final = msgspec.msgpack.Encoder().encode


def topic(channel: str, symbol: str) -> str:
    """Name the topic of one market's channel."""
    return f"{channel}.{symbol}."


class Record(msgspec.Struct, array_like=True, gc=False):
    """One frame on its way from a shard to the aggregator."""

    topic: str
    kind: int
    flags: int
    height: int
    sequence: int
    """The book's sequence, also of a ticker; of trades the highest n, where
    their heights tell them apart; of a gap its id; else 0."""
    count: int
    """Events inside: 1, or the number of trades or orders."""
    ts_event: int
    """0 where no block time belongs to it."""
    ts_recv: int
    event: bytes


class BatchHeader(msgspec.Struct, array_like=True, gc=False):
    """What stands before a batch of records; encoded anew at every send."""

    version: int
    shard: int
    epoch: int
    publisher_epoch: int
    """The aggregator that the batch is meant for; another one refuses it."""
    frame_sequence: int
    """Of the first record; the others count up from it."""
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
    """Build what stands before the topic sequence: one for all frames of a kind."""
    return _HEAD.pack(0x9A, VERSION, kind, 0xCF, publisher_epoch, 0xCF)


def middle(ts_pub: int, ts_push: int, shard: int, epoch: int) -> bytes:
    """Build what stands between the two sequences: one for all frames of a batch."""
    return _MIDDLE.pack(0xCF, ts_pub, 0xCF, ts_push, 0xCD, shard, 0xCF, epoch, 0xCF)


assemble: Final = _PREFIX.pack
"""Build the sixty bytes before an event from ``(head, topic_sequence, middle, frame_sequence)``:
what the frames of a batch share is packed once, which takes two thirds of the cost."""


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
    """Build the sixty bytes that stand before an encoded event in a body."""
    between = middle(ts_pub, ts_push, shard, epoch)
    return assemble(head(kind, publisher_epoch), topic_sequence, between, frame_sequence)


def kind_of(body: bytes) -> int:
    """
    Read a body's kind without decoding it.

    Raises:
        ValueError: If the body is too short, or of a version that this code cannot read.

    """
    if len(body) <= PREFIX_SIZE or body[0] != 0x9A:
        raise ValueError("not a frame: too short, or not an array of ten")
    if body[1] != VERSION:
        raise ValueError(f"frame version {body[1]}, this reader knows {VERSION}")
    return body[_KIND_OFFSET]


def ts_pub_of(body: bytes) -> int:
    """Read when a body was published without decoding it; it must be whole."""
    return int(_ts_pub(body, 22)[0])


_frames: Final = msgspec.msgpack.Decoder(Frame)
EVENTS: Final[dict[int, msgspec.msgpack.Decoder[Event]]] = {
    channel.kind: msgspec.msgpack.Decoder(channel.event) for channel in channels.CHANNELS
}
"""The decoder of each kind's event."""


def decode(body: bytes) -> tuple[Frame, Event | None]:
    """
    Decode a body; the event is None where its kind is newer than this reader.

    Raises:
        ValueError: If the body is not a frame of a version that this code can read
            (`msgspec.DecodeError` is one).

    """
    kind_of(body)
    frame = _frames.decode(body)
    events = EVENTS.get(frame.kind)
    return frame, None if events is None else events.decode(frame.event)


decode_trades: Final = msgspec.msgpack.Decoder(Trades).decode
decode_gap: Final = msgspec.msgpack.Decoder(Gap).decode
_batches: Final = msgspec.msgpack.Decoder(list[Record])
_headers: Final = msgspec.msgpack.Decoder(BatchHeader)
decode_records: Final = _batches.decode
decode_header: Final = _headers.decode
