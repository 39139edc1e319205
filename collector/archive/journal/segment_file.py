"""
The journal: received facts that are not sealed yet, safe against any kill.

A segment is a file of chunks, appended by one ``write`` each::

    offset  bytes
         0  u32    length of the payload, big endian
         4  u32    CRC-32 of the payload
         8  …      zstd of a MessagePack `Chunk`

A kill can only truncate the last chunk, a power cut also loses chunks that were not synced. `read`
stops at the first that is not whole, and `Writer` removes what follows before it appends. The open
segment has zeros behind its chunks. Segments are numbered, and only the newest is written to. A
segment is removed once all its parts are sealed.
"""

import contextlib
import itertools
import os
import struct
import time
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec
import zstandard

from collector.archive.journal.packing import array_of
from collector.archive.storage import layout
from collector.archive.storage.crash_points import reach, torn
from collector.archive.storage.files import make_folder, sync_folder
from shards.protocol.errors import UNREADABLE

HEAD: Final = struct.Struct(">II")
_MOST: Final = 1 << 30
_SUFFIX: Final = ".jnl"
_AHEAD: Final = 1 << 20
"""
Bytes that are filled with zeros ahead of the chunks. To overwrite them takes half of the CPU of a
sync, for the file system does not have to store where new bytes are.
"""
_OF_FREE: Final = 1_024
"""They take one of so many free bytes at most, so that a full disk is noticed at once."""
_TOGETHER: Final = 64
"""Chunks that are decoded at once: a block of few changes is a small chunk."""
_LEVEL: Final = -1
"""Without entropy coding, whose tables cost more than a small chunk: a third of the CPU to read."""


class Entry(msgspec.Struct, array_like=True, gc=False):
    """One published event, encoded as it was on the wire, and the header of its frame."""

    topic: str
    kind: int
    height: int
    """Which part it belongs to; of a fact without one, the height known when it came."""
    event: bytes
    publisher_epoch: int = 0
    topic_sequence: int = 0
    ts_pub: int = 0
    ts_push: int = 0
    shard: int = 0


class Cursor(msgspec.Struct, array_like=True, gc=False):
    """Where one topic stands: what a subscriber needs to go on from there."""

    topic: str
    publisher_epoch: int
    sequence: int
    """topic_sequence."""
    complete: int
    floor: int
    fact: int
    in_sync: bool
    chain: int = -1
    """Generation of the chain that it is of; -1 where it was not known."""
    count: tuple[int, int, int, int] | None = None
    """Where the count of a book's sequence is (client/book_count.py); none in older journals."""
    is_ended: bool = False
    """Whether the collector does not collect its channel."""


class Note(msgspec.Struct, array_like=True, gc=False):
    """What is known of the coverage of one market, or of all where `symbol` is empty."""

    kind: str
    """``start``, ``lost``, ``filled``, ``gone``, ``gap-open``, ``gap-closed``, ``market``,
    ``source``, ``complete``, ``removed``, ``again``, ``absent``, ``replayed``, ``behind``, ``caught``,
    ``end``, ``channels``, ``channel-end``."""
    symbol: str
    first: int
    last: int
    text: str = ""


class Chunk(msgspec.Struct, array_like=True, gc=False):
    """What one write holds."""

    entries: list[Entry] = []
    notes: list[Note] = []
    cursors: list[Cursor] = []
    """Of all topics at the start of a segment; else of those that moved without an entry."""


class Head(msgspec.Struct, array_like=True, gc=False):
    """How an `Entry` begins."""

    topic: str
    kind: int
    height: int


class Stored(NamedTuple):
    """One or more chunks that follow each other; their entries are still encoded."""

    heads: list[Head]
    entries: list[msgspec.Raw]
    notes: list[Note]
    size: int
    """Bytes of the whole; the entries are slices of them."""


class _RawChunk(msgspec.Struct, array_like=True, gc=False):
    entries: list[msgspec.Raw] = []
    notes: list[Note] = []


class _Heads(msgspec.Struct, array_like=True, gc=False):
    entries: list[Head] = []


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Chunk).decode
_decode_raw: Final = msgspec.msgpack.Decoder(list[_RawChunk]).decode
_decode_heads: Final = msgspec.msgpack.Decoder(list[_Heads]).decode


def segments(root: Path) -> list[Path]:
    """
    Return the journal's segments, oldest first.

    Raises:
        OSError: If the folder is there and cannot be read; `Path.glob` would find nothing then.

    """
    folder = root / layout.JOURNAL
    try:
        found = [folder / name for name in os.listdir(folder)]
    except FileNotFoundError:
        return []
    return sorted(path for path in found if path.suffix == _SUFFIX and path.stem.isdecimal())


def segment_path(folder: Path, number: int) -> Path:
    """Return where the segment of this number is."""
    return folder / f"{number:012}{_SUFFIX}"


def read(path: Path) -> Iterator[Chunk]:
    """Read a segment's whole chunks, in order; a truncated chunk is skipped."""
    with path.open("rb") as file:
        for chunk, _ in chunks_of(file):
            yield chunk


def read_stored(path: Path) -> Iterator[Stored]:
    """Read a segment's whole chunks, but of their entries only how they begin; the first chunk alone."""
    most = 1
    with path.open("rb") as file:
        payloads = (payload for payload, _ in _payloads(file))
        while some := list(itertools.islice(payloads, most)):
            most = _TOGETHER
            try:
                yield _stored(some)
            except UNREADABLE:
                # The chunks before the one that is not readable.
                with contextlib.suppress(*UNREADABLE):
                    for payload in some:
                        yield _stored([payload])
                return


def _stored(payloads: list[bytes]) -> Stored:
    data = array_of(payloads)
    chunks, heads = _decode_raw(data), _decode_heads(data)
    return Stored(
        list(chain.from_iterable(chunk.entries for chunk in heads)),
        list(chain.from_iterable(chunk.entries for chunk in chunks)),
        list(chain.from_iterable(chunk.notes for chunk in chunks)),
        len(data),
    )


def whole_bytes(path: Path) -> int:
    """Return how many bytes of a segment are whole chunks."""
    return max(ends(path), default=0)


def ends(path: Path) -> list[int]:
    """Return the offsets at which a segment's whole chunks end."""
    with path.open("rb") as file:
        return [end for _, end in chunks_of(file)]


def chunks_of(file: BinaryIO) -> Iterator[tuple[Chunk, int]]:
    """Read the whole chunks of an open segment, each with the number of bytes up to its end."""
    for payload, end in _payloads(file):
        try:
            chunk = _decode(payload)
        except UNREADABLE:
            return
        yield chunk, end


def _payloads(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Read what the whole chunks hold, each with the number of bytes up to its end."""
    unpack = zstandard.ZstdDecompressor().decompress
    end = 0
    while len(head := file.read(HEAD.size)) == HEAD.size:
        length, crc = HEAD.unpack(head)
        packed = file.read(length) if length < _MOST else b""
        if not length or len(packed) < length or zlib.crc32(packed) != crc:
            return
        try:
            payload = unpack(packed)
        except zstandard.ZstdError:
            return
        end += HEAD.size + length
        yield payload, end


class Writer:
    """Appends to the newest segment. Not for more than one thread or process."""

    def __init__(self, root: Path) -> None:
        self._folder = root / layout.JOURNAL
        make_folder(self._folder)
        found = segments(root)
        self._number = int(found[-1].stem) if found else 0
        self._file = -1
        self._pack = zstandard.ZstdCompressor(level=_LEVEL)
        self._unsynced_at = 0.0
        """When the oldest bytes were appended that are not on the disk yet; 0 if all are."""
        self.bytes = 0
        """Of the open segment's chunks."""
        self._filled = 0
        """The open segment's size: its chunks and zeros."""
        if found:
            self._open(found[-1])
            self.bytes = whole_bytes(found[-1])
            self._trim()
            # A killed writer may not have synced it, and the next segment relies on it.
            self._unsynced_at = time.monotonic()

    @property
    def number(self) -> int:
        """The open segment's; 0 before the first."""
        return self._number

    def begin(self, chunk: Chunk) -> None:
        """
        Begin a new segment with a chunk that has every position.

        Raises:
            OSError: If the disk is full or fails; then no segment is open, and none was made.

        """
        if self._filled > self.bytes:
            self._trim()
        self.sync()
        self.close()
        path = segment_path(self._folder, self._number + 1)
        self._open(path)
        self._number, self.bytes, self._filled = self._number + 1, 0, 0
        try:
            sync_folder(self._folder)
            self.append(chunk)
        except OSError:
            # Trying again would make one empty segment after the other.
            self.close()
            path.unlink()
            self._number -= 1
            raise

    def append(self, chunk: Chunk) -> None:
        """
        Append a chunk; `sync` makes sure of it.

        Raises:
            OSError: If the disk is full or fails; nothing of the chunk remains then.

        """
        payload = self._pack.compress(_encode(chunk))
        data = HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        end = self.bytes + len(data)
        if end > self._filled:
            self._fill(end)
        chosen = torn("journal.torn", data)
        try:
            self._write(chosen, self.bytes)
        except OSError:
            self._trim()
            raise
        reach("journal.appended" if chosen is data else "journal.torn")
        self.bytes = end
        self._filled = max(self._filled, end)
        self._unsynced_at = self._unsynced_at or time.monotonic()

    def _fill(self, end: int) -> None:
        """Fill the segment with zeros ahead of there; without any if the disk is nearly full."""
        try:
            disk = os.fstatvfs(self._file)
            end += min(_AHEAD, disk.f_bavail * disk.f_frsize // _OF_FREE)
            self._write(bytes(end - self._filled), self._filled)
            self._filled = end
        except OSError:
            self._trim()

    def _write(self, data: bytes, at: int) -> None:
        written = os.pwrite(self._file, data, at)
        while written < len(data):
            # A disk that is nearly full takes a part.
            written += os.pwrite(self._file, data[written:], at + written)

    def _trim(self) -> None:
        """Remove everything behind the chunks."""
        os.ftruncate(self._file, self.bytes)
        self._filled = self.bytes

    def unsynced_s(self) -> float:
        """Return how long the oldest bytes have waited that are not on the disk; -1 if all are."""
        return time.monotonic() - self._unsynced_at if self._unsynced_at else -1.0

    def sync(self) -> None:
        """Write everything appended through to the disk."""
        if self._unsynced_at:
            os.fdatasync(self._file)
            self._unsynced_at = 0.0
            reach("journal.synced")

    def close(self) -> None:
        """Close the open segment."""
        if self._file >= 0:
            if self._filled > self.bytes:
                self._trim()
            os.close(self._file)
            self._file = -1

    def _open(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
