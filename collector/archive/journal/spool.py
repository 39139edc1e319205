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
from collector.archive.journal.segment_file import Entry, Note
from collector.archive.storage.layout import Part

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Entry]).decode
_MOST_BYTES: Final = 4 << 20
"""Events in memory, which take three times as much there; ten times as many are no faster."""


class Spool:
    """The entries of one part, by topic; `close` removes the file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._end = 0
        self._pieces: dict[str, list[tuple[int, int]]] = {}
        """Offset and length of what is in the file, by topic."""
        self._waiting: dict[str, list[Entry]] = defaultdict(list)
        self._bytes = 0
        """Of the events that wait."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Keep entries."""
        waiting = self._waiting
        for entry in entries:
            waiting[entry.topic].append(entry)
            self._bytes += len(entry.event)
        if self._bytes > _MOST_BYTES:
            self._write()

    def _write(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=1 << 20)  # noqa: SIM115
        for topic, entries in self._waiting.items():
            data = _encode(entries)
            self._file.write(data)
            self._pieces.setdefault(topic, []).append((self._end, len(data)))
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
        for offset, length in self._pieces.get(topic, ()):
            assert self._file is not None
            found += _decode(os.pread(self._file.fileno(), length, offset))
        return found + self._waiting[topic]

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
    for segment in segment_file.segments(root):
        for chunk in segment_file.read(segment):
            notes += chunk.notes
            for spool, (first, last) in zip(spools, parts, strict=True):
                spool.add(entry for entry in chunk.entries if first <= entry.height <= last)
    return spools, notes
