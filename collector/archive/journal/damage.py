"""
What the journal lacks where a closed segment is damaged.

A segment is synced before the next one begins, so only a failing disk or a foreign hand damages a closed
one. What follows the damage cannot be read, and the next segment's positions do not ask for it again:
its blocks are lost, and fetched like any others.
"""

import logging
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from collector.archive.journal import segment_file
from collector.archive.journal.segment_file import Chunk, Note

log = logging.getLogger(__name__)

_PIECE: Final = 1 << 20


def lost_blocks(segments: Sequence[Path]) -> dict[Path, Note]:
    """
    Find closed segments that cannot be read to their end.

    Args:
        segments: All of a journal, oldest first; the newest may still be written to.

    Returns:
        By the segment after the damaged one, the heights that are lost for all markets. The note
        belongs after that segment's first chunk, which names the markets.

    """
    found: dict[Path, Note] = {}
    damaged: Path | None = None
    for path in segments:
        if damaged is not None and (chunk := next(segment_file.read(path), None)) is not None:
            if note := _between(damaged, chunk):
                found[path] = note
            damaged = None
        if damaged is None and path != segments[-1] and not _is_whole(path):
            damaged = path
    return found


def read_all(segments: Sequence[Path]) -> Iterator[tuple[Path, list[Chunk]]]:
    """Read a journal's segments, with a note of the blocks that are lost to damage; warn of them."""
    lost = lost_blocks(segments)
    for path in segments:
        chunks = list(segment_file.read(path))
        if note := lost.get(path):
            log.warning(
                "the journal is damaged before %s: the blocks from %d to %d are fetched again",
                path,
                note.first,
                note.last,
            )
            chunks[0].notes.append(note)
        yield path, chunks


def _is_whole(path: Path) -> bool:
    """Say whether all of a segment is whole chunks, without unpacking them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        end = 0
        while end < size:
            head = file.read(segment_file.HEAD.size)
            if len(head) < segment_file.HEAD.size:
                return False
            length, crc = segment_file.HEAD.unpack(head)
            if not length:
                # Zeros ahead of its chunks, which a power cut has brought back.
                return not any(head) and _is_blank(file)
            end += segment_file.HEAD.size + length
            if end > size or zlib.crc32(file.read(length)) != crc:
                return False
    return True


def _is_blank(file: BinaryIO) -> bool:
    """Say whether the rest of a file is zeros."""
    return all(not any(piece) for piece in iter(lambda: file.read(_PIECE), b""))


def _between(damaged: Path, following: Chunk) -> Note | None:
    """Return the heights from the last that is readable to the first of the next segment."""
    complete = [note.first for note in following.notes if note.kind == "complete"]
    complete += [cursor.complete for cursor in following.cursors]
    last = max(complete, default=0)
    if last <= 0:
        # A backfill's segments have no positions: it fetches what is not noted as fetched.
        return None
    heights = [entry.height for chunk in segment_file.read(damaged) for entry in chunk.entries]
    starts = [note.first for note in following.notes if note.kind == "start"]
    # Both ends may be blocks of which a part is readable.
    first = max(heights, default=0) or min(starts, default=last)
    return Note("lost", "", min(first, last), last + 1)
