"""
The manifest: one line of JSON per sealed range, appended and synced before the journal is deleted.

A file that no line names does not belong to the archive. A line cut short by a kill does not
count. Compaction and pruning add lines too: the last line about a range is valid.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from collector.archive.storage import layout
from collector.archive.storage.by_channel import ByChannel
from collector.archive.storage.crash_points import reach
from collector.archive.storage.files import sync_folder
from shards.protocol.errors import UNREADABLE

_encode: Final = msgspec.json.Encoder().encode


class File(msgspec.Struct, kw_only=True):
    """One Parquet file of a sealed range."""

    path: str
    """Relative to the archive."""
    channel: str
    date: str
    first: int
    last: int
    """Heights of the range, not of the rows."""
    rows: int
    bytes: int
    file_sha256: str
    facts_sha256: str = ""
    """Over the columns of fact alone, in order of their key; empty where rows are samples."""
    overflows: int = 0
    """Values of more than twenty integer digits: null, with their text beside them."""


class Line(msgspec.Struct, kw_only=True):
    """What one act of a writer made of a range."""

    act: str
    """``seal``, ``add`` (facts that came later), ``compact``, ``prune``."""
    first: int
    last: int
    files: list[File]
    removed: list[str] = []
    """Paths that this act took out of the archive."""
    missing: dict[str, list[tuple[int, int]]] = {}
    """Heights that no source had, by symbol."""
    channels: ByChannel | None = None
    """
    The channels of the part, each with the heights that the coverage table counts as here and this
    channel lacks, by symbol. None where that is not known: in older archives.
    """
    writer: str = ""
    ts: int = 0


_decode: Final = msgspec.json.Decoder(Line).decode


def read(root: Path) -> list[Line]:
    """Return the manifest's whole lines, oldest first."""
    try:
        content = (root / layout.MANIFEST).read_bytes()
    except FileNotFoundError:
        return []
    return list(lines_of(content))


def lines_of(content: bytes) -> Iterator[Line]:
    """
    Read the whole lines of a manifest's text.

    Archives are handed on, and files are read and removed by the paths in it: a line with a path
    that leads out of the archive does not count.
    """
    for line in content.split(b"\n")[:-1]:
        try:
            found = _decode(line)
        except UNREADABLE:
            # Truncated by a kill; the next writer continued on a new line.
            continue
        if all(map(layout.is_inside, _paths(found))):
            yield found


def _paths(line: Line) -> Iterator[str]:
    """Yield everything in a line that becomes a path."""
    yield from line.removed
    for file in line.files:
        yield file.path
        yield layout.folder_of(file.channel, file.date)


def append(root: Path, line: Line) -> None:
    """Append a line and have the disk keep it."""
    path = root / layout.MANIFEST
    is_new = not path.exists()
    with path.open("ab+") as file:
        data = _encode(line) + b"\n"
        if file.tell() and not _ends_with_newline(file.fileno(), file.tell()):
            data = b"\n" + data
        file.write(data[: len(data) // 2])
        file.flush()
        reach("manifest.torn")
        file.write(data[len(data) // 2 :])
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(root)
    reach("manifest.appended")


def _ends_with_newline(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"


def current(lines: list[Line]) -> dict[str, File]:
    """Return the files that make up the archive now, by path."""
    found: dict[str, File] = {}
    for line in lines:
        for path in line.removed:
            found.pop(path, None)
        found.update((file.path, file) for file in line.files)
    return found


def pruned(lines: list[Line]) -> dict[layout.Part, set[str]]:
    """Return the ranges removed to make room, and not fetched again since, with their dates."""
    found: dict[layout.Part, set[str]] = {}
    for line in lines:
        part = layout.Part(line.first, line.last)
        if line.act == "prune":
            found[part] = {layout.date_in(path) for path in line.removed}
        elif line.files:
            found.pop(part, None)
    return found


def by_channel(lines: list[Line]) -> dict[layout.Part, ByChannel]:
    """Return what each part lacks in single channels; of older parts that is not known."""
    found: dict[layout.Part, ByChannel] = {}
    for line in lines:
        part = layout.Part(line.first, line.last)
        if line.channels is not None:
            found[part] = line.channels
        elif line.act in ("seal", "prune"):
            found.pop(part, None)
    return found


def sealed(lines: list[Line]) -> set[layout.Part]:
    """Return the ranges that were sealed, whatever became of their files."""
    return {layout.Part(line.first, line.last) for line in lines if line.act == "seal"}
