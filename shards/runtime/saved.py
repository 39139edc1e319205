"""
Files that outlive their process: whole or not there, whatever ends it.

A file is written beside its place and renamed into it, so that no reader ever sees half of
one. Its checksum tells what a power cut or a failing disk made of it; such a file is set
aside, with a warning, and counts as not there.

::

    10 bytes   b"collector" and the version of this layout
     4 bytes   CRC32 of the rest, big-endian
    the rest   whatever was saved
"""

import contextlib
import logging
import os
import zlib
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_MAGIC: Final = b"collector\x01"
_HEAD: Final = len(_MAGIC) + 4


class SavedFile:
    """One such file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> bytes | None:
        """
        Return what was saved last; None if nothing was, or it is damaged and now set aside.

        Raises:
            OSError: If it is there and cannot be read.

        """
        try:
            found = self.path.read_bytes()
        except FileNotFoundError:
            return None
        head, payload = found[:_HEAD], found[_HEAD:]
        if head == _head(payload):
            return payload
        self.set_aside("it is cut short or damaged")
        return None

    def set_aside(self, why: str) -> None:
        """Move the file out of the way, where people can still look at it, and say so."""
        aside = self.path.with_name(f"{self.path.name}.set-aside")
        with contextlib.suppress(OSError):
            self.path.replace(aside)
        log.warning("%s cannot be used: %s; it is now %s", self.path, why, aside.name)

    def save(self, payload: bytes) -> None:
        """
        Save at once, so that it outlives this process; not yet a power cut.

        Raises:
            OSError: If that cannot be done; what was saved before stays.

        """
        self._put(self._write(payload, ".now", sync=False))

    def write_through(self, payload: bytes) -> Path:
        """
        Write to the disk itself and return where; `adopt` puts that in place. For a thread.

        Raises:
            OSError: If that cannot be done.

        """
        return self._write(payload, ".part", sync=True)

    def adopt(self, part: Path) -> None:
        """
        Put what `write_through` wrote in its place.

        Raises:
            OSError: If that cannot be done.

        """
        self._put(part)

    def _write(self, payload: bytes, suffix: str, *, sync: bool) -> Path:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + suffix)
        with part.open("wb") as file:
            file.write(_head(payload))
            file.write(payload)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        return part

    def _put(self, part: Path) -> None:
        part.replace(self.path)


def _head(payload: bytes) -> bytes:
    return _MAGIC + zlib.crc32(payload).to_bytes(4, "big")
