"""
Captures: the frames received by a check, in a file to be checked again later.

::

    file      record record record …
    record    4 bytes: length of topic, big-endian | topic | 4 bytes: length of body | body

Topic and body are those of the wire (docs/wire-format.md). Three topics, without a dot, are added
by the check; their bodies are MessagePack maps:

=========  =====================================================================================
topic      body
=========  =====================================================================================
``begin``  ``markets``: list of {market_id, symbol, type}; ``first``: first height to be checked
``lost``   ``topic``, ``first``, ``last``, ``reason``: frames that were lost
``end``    ``last``: last height to be checked; ``heights``, ``holes`` by symbol; ``open``: gaps
=========  =====================================================================================
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from collector.client.received import Lost, Received

_LENGTH: Final = struct.Struct(">I")
_KINDS: Final = {"book": 1, "trades": 2, "gap": 3}
_PREFIX: Final = struct.Struct(">BBBBQBQBQBQBHBQBQ")


class CaptureError(Exception):
    """The file is not a capture, or incomplete; the text is one sentence."""


class Market(msgspec.Struct, frozen=True):
    """One checked market."""

    market_id: str
    symbol: str
    type: str


class Begin(msgspec.Struct, frozen=True, kw_only=True):
    """What is checked, and from which height."""

    markets: list[Market]
    first: int
    channels: tuple[str, ...] = ("book", "trades")


class End(msgspec.Struct, frozen=True, kw_only=True):
    """The collector's state at the end."""

    last: int
    heights: dict[str, int]
    holes: dict[str, list[tuple[int, int]]]
    open: int = 0


def write(file: BinaryIO, topic: str, body: bytes) -> None:
    """Append one record."""
    name = topic.encode()
    file.write(_LENGTH.pack(len(name)) + name + _LENGTH.pack(len(body)) + body)


def write_received(file: BinaryIO, received: Received) -> None:
    """Append a `Subscriber`'s event, with its frame's body."""
    if isinstance(received.event, Lost):
        lost = msgspec.structs.asdict(received.event) | {"topic": received.topic}
        write(file, "lost", msgspec.msgpack.encode(lost))
    elif received.topic:
        header = _PREFIX.pack(
            *(0x9A, 1, _KINDS[received.channel]),
            *(0xCF, received.publisher_epoch, 0xCF, received.topic_sequence),
            *(0xCF, received.ts_pub, 0xCF, received.ts_push, 0xCD, received.shard),
            *(0xCF, received.epoch, 0xCF, received.frame_sequence),
        )
        write(file, received.topic, header + msgspec.msgpack.encode(received.event))


def read(path: str) -> Iterator[tuple[str, bytes]]:
    """
    Read ``(topic, body)`` from a file.

    Raises:
        CaptureError: If it cannot be read, or ends within a record.

    """
    try:
        with Path(path).open("rb") as file:
            while length := file.read(4):
                topic = _take(file, path, length)
                yield topic.decode(), _take(file, path, file.read(4))
    except OSError as error:
        raise CaptureError(f"cannot read the capture {path}: {error.strerror}") from None


def _take(file: BinaryIO, path: str, length: bytes) -> bytes:
    part = file.read(_LENGTH.unpack(length)[0]) if len(length) == 4 else b""
    if len(length) != 4 or len(part) != _LENGTH.unpack(length)[0]:
        raise CaptureError(f"{path} is not a capture, or it was cut off")
    return part
