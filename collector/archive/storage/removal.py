"""
Remove a part's files, even from a disk that is full.

A line of the manifest says first which files go. A full disk has no room for that line: then
the part's largest file is given a name that says so, and is emptied. Whoever finds that name after a
kill finishes the removal.
"""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from collector.archive.storage import layout, manifest
from collector.archive.storage.crash_points import reach
from collector.archive.storage.layout import Part
from collector.archive.storage.manifest import File

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a disk without room says."""


def remove(root: Path, part: Part, *, ts: int) -> int:
    """
    Remove a part; return the bytes of its files. The caller holds `files.sealing`.

    Raises:
        OSError: If the disk fails, or is full whatever is removed.

    """
    files = [
        file
        for file in manifest.current(manifest.read(root)).values()
        if (file.first, file.last) == part
    ]
    if not files:
        return 0
    paths = [file.path for file in files]
    line = manifest.Line(
        act="prune", first=part.first, last=part.last, files=[], removed=paths,
        writer=f"process {os.getpid()}", ts=ts,
    )  # fmt: skip
    _name(root, line, files)
    for path in paths:
        for name in (path, path + layout.PRUNED):
            (root / name).unlink(missing_ok=True)
        reach("prune.removed")
        with contextlib.suppress(OSError):
            # Only if it is empty.
            (root / path).parent.rmdir()
    return sum(file.bytes for file in files)


def _name(root: Path, line: manifest.Line, files: list[File]) -> None:
    """Append the line; while the disk is full, empty one of the files first."""
    largest = sorted(files, key=lambda file: file.bytes)
    while True:
        try:
            manifest.append(root, line)
            return
        except OSError as error:
            if error.errno not in FULL or not largest:
                raise
        _empty(root, largest.pop().path)


def _empty(root: Path, path: str) -> None:
    """Give a file's room back; its new name stays."""
    marked = root / (path + layout.PRUNED)
    with contextlib.suppress(FileNotFoundError):
        (root / path).rename(marked)
    reach("prune.marked")
    with contextlib.suppress(FileNotFoundError):
        os.truncate(marked, 0)
    reach("prune.emptied")


def finish(root: Path) -> None:
    """Remove the parts whose removal a kill has interrupted on a full disk."""
    for marked in sorted(root.glob(f"*/date=*/*{layout.PRUNED}")):
        remove(root, layout.range_of(marked), ts=marked.stat().st_mtime_ns)
        # Its part may have been named before.
        marked.unlink(missing_ok=True)
