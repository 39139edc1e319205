"""
One part's share of the journal, sorted by topic, in a temporary file.

Sealing a part of three hundred markets may take a million events; only one topic's are in
memory at a time.
"""

import os
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

from collector.archive import journal
from collector.archive.journal import Entry, Note
from collector.archive.layout import Part

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Entry).decode


class Spool:
    """The entries of one part, by topic; `close` removes the file."""

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=1 << 20)  # noqa: SIM115
        self._end = 0
        self._at: dict[str, array[int]] = {}
        """Offsets and lengths in turn, by topic."""

    def add(self, entry: Entry) -> None:
        """Keep an entry."""
        data = _encode(entry)
        self._file.write(data)
        places = self._at.get(entry.topic)
        if places is None:
            places = self._at[entry.topic] = array("Q")
        places.append(self._end)
        places.append(len(data))
        self._end += len(data)

    def topics(self) -> list[str]:
        """Return the topics that have entries."""
        return sorted(self._at)

    def entries(self, topic: str) -> Iterator[Entry]:
        """Return a topic's entries in the order in which they came."""
        places = self._at.get(topic, array("Q"))
        self._file.flush()
        descriptor = self._file.fileno()
        for i in range(0, len(places), 2):
            yield _decode(os.pread(descriptor, places[i + 1], places[i]))

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


def gather(root: Path, part: Part, folder: Path) -> tuple[Spool, list[Note]]:
    """Read the whole journal; return a part's entries, and all notes in order."""
    spool, notes = Spool(folder), []
    for segment in journal.segments(root):
        for chunk in journal.read(segment):
            notes += chunk.notes
            for entry in chunk.entries:
                if part.first <= entry.height <= part.last:
                    spool.add(entry)
    return spool, notes
