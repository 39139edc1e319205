"""
One part's journal entries, sorted by topic.

Sealing a part of three hundred markets may take a million events. A few megabytes stay in
memory; the others go to a temporary file, in large pieces of one topic each.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from collector.archive.journal import segment_file
from collector.archive.journal.damage import lost_blocks
from collector.archive.journal.packing import Buffer, array_head, array_of
from collector.archive.journal.segment_file import Entry, Note, Stored
from collector.archive.storage.layout import Part

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Entry]).decode
_MOST_BYTES: Final = 8 << 20
"""Entries in memory; ten times as many are no faster."""


class Spool:
    """The entries of one part, by topic; `close` removes the file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._end = 0
        self._pieces: dict[str, list[tuple[int, int, int]]] = {}
        """Offset, length and number of entries of what is in the file, by topic."""
        self._waiting: dict[str, list[Buffer]] = defaultdict(list)
        """Encoded entries in memory."""
        self._bytes = 0
        """Of the entries that wait."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Keep entries."""
        for entry in entries:
            encoded = _encode(entry)
            self._waiting[entry.topic].append(encoded)
            self._bytes += len(encoded)
        self._limit()

    def keep(self, stored: Stored, part: Part) -> None:
        """Keep the entries of one part; only how they begin has been decoded."""
        (first, last), waiting, is_any = part, self._waiting, False
        for head, entry in zip(stored.heads, stored.entries, strict=True):
            if first <= head.height <= last:
                waiting[head.topic].append(entry)
                is_any = True
        if is_any:
            # They are slices of the chunks, so all of them stay in memory.
            self._bytes += stored.size
            self._limit()

    def _limit(self) -> None:
        if self._bytes > _MOST_BYTES:
            self._write()

    def _write(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=1 << 20)  # noqa: SIM115
        for topic, entries in self._waiting.items():
            data = b"".join(entries)
            self._file.write(data)
            self._pieces.setdefault(topic, []).append((self._end, len(data), len(entries)))
            self._end += len(data)
        self._file.flush()
        self._waiting.clear()
        self._bytes = 0

    def topics(self) -> list[str]:
        """Return the topics that have entries."""
        return sorted({*self._pieces, *self._waiting})

    def entries(self, topic: str) -> list[Entry]:
        """Return a topic's entries in the order in which they came."""
        found: list[Entry] = []
        for offset, length, number in self._pieces.get(topic, ()):
            assert self._file is not None
            found += _decode(array_head(number) + os.pread(self._file.fileno(), length, offset))
        waiting = self._waiting.get(topic, [])
        return found + _decode(array_of(waiting))

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()


def gather(root: Path, part: Part, folder: Path) -> tuple[Spool, list[Note]]:
    """Read the whole journal; return a part's entries, and all notes in order."""
    (spool,), notes = gather_each(root, (part,), folder)
    return spool, notes


def gather_each(
    root: Path, parts: Sequence[Part], folder: Path
) -> tuple[tuple[Spool, ...], list[Note]]:
    """Read the whole journal once; return the entries of each part, and all notes in order."""
    spools, notes = tuple(Spool(folder) for _ in parts), []
    segments = segment_file.segments(root)
    lost = lost_blocks(segments)
    for segment in segments:
        for stored in segment_file.read_stored(segment):
            notes += stored.notes
            if segment in lost:
                notes.append(lost.pop(segment))
            for spool, part in zip(spools, parts, strict=True):
                spool.keep(stored, part)
    return spools, notes
