"""
The recorder's journal as a row of segments.

A segment begins with the positions of all topics, and ends when a part ends or when it is large
enough. It is removed once everything in it is sealed.
"""

from pathlib import Path
from typing import Final

from collector.archive.journal import segment_file
from collector.archive.journal.segment_file import Chunk, Writer
from collector.archive.storage import layout
from collector.archive.storage.layout import Part, part_of

_ROTATE_BYTES: Final = 64 << 20


class Segments:
    """The journal segments of one archive, and the height up to which each has entries."""

    def __init__(self, root: Path, span: int) -> None:
        self._folder = root / layout.JOURNAL
        self._span = span
        self._writer = Writer(root)
        self._heights: dict[int, int] = {}
        """The highest height in each closed segment, by its number."""
        self._height = 0
        """The highest height in the open segment."""
        self._synced_height = 0
        self._part = Part(-1, -1)

    @property
    def bytes(self) -> int:
        """Size of the open segment."""
        return self._writer.bytes

    def note_segment(self, path: Path, height: int) -> None:
        """Note an existing segment and the highest height in it."""
        self._heights[int(path.stem)] = height

    def begin(self, chunk: Chunk) -> None:
        """Begin a segment with a chunk that has the position of every topic."""
        if self._writer.number:
            self._heights.setdefault(self._writer.number, self._height)
        self._writer.begin(chunk)
        self._height = 0

    def append(self, chunk: Chunk) -> None:
        """
        Append a chunk to the open segment.

        Raises:
            OSError: If the disk is full. The segment is then as it was before.

        """
        self._writer.append(chunk)
        self._height = max(self._height, max((e.height for e in chunk.entries), default=0))

    def sync(self) -> None:
        """Write through to the disk."""
        self._writer.sync()

    def sync_older(self, age_s: float) -> None:
        """Sync the segment if something in it was appended that many seconds ago, or earlier."""
        if self._writer.unsynced_s() >= age_s:
            self._writer.sync()

    def sync_block(self) -> None:
        """Write through to the disk if a new height has begun since the last time."""
        if self._height > self._synced_height:
            self._writer.sync()
            self._synced_height = self._height

    def is_due(self, head: int) -> bool:
        """Say whether a new segment should begin, now that the newest height is ``head``."""
        part = part_of(head, self._span)
        if part.first <= self._part.first and self._writer.bytes <= _ROTATE_BYTES:
            return False
        # Before the first height there is nothing to separate.
        is_due = self._part.first >= 0
        self._part = part
        return is_due

    def drop(self, part: Part) -> None:
        """Remove the segments in which everything is sealed, now that this part is."""
        for number, height in sorted(self._heights.items()):
            if height <= part.last and number < self._writer.number:
                segment_file.segment_path(self._folder, number).unlink(missing_ok=True)
                del self._heights[number]
        for path in self._folder.glob("books-*.msgpack"):
            first = path.stem.partition("-")[2]
            if first.isdecimal() and int(first) <= part.first:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the open segment."""
        self._writer.close()
