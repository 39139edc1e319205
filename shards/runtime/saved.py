"""
Files that survive crashes: complete or absent, however the process ends.

A file is written under a temporary name and then renamed, so no reader sees half of it. Its
checksum detects damage from power cuts and failing disks; a damaged file is set aside with a
warning and counts as absent.

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
    """One crash-safe file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> bytes | None:
        """
        Return the last saved payload; None if there is none, or it was damaged and is now set aside.

        Raises:
            OSError: If the file exists and cannot be read.

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
        """Rename the file, so that people can still inspect it, and log a warning."""
        aside = self.path.with_name(f"{self.path.name}.set-aside")
        with contextlib.suppress(OSError):
            self.path.replace(aside)
        log.warning("%s cannot be used: %s; it is now %s", self.path, why, aside.name)

    def save(self, payload: bytes) -> None:
        """
        Save so that it survives this process, but not yet a power cut.

        Raises:
            OSError: If that fails; the earlier content stays.

        """
        self._put(self._write(payload, ".now", sync=False))

    def write_through(self, payload: bytes) -> Path:
        """
        Write and fsync a temporary file and return its path for `adopt`. Run it in a thread.

        Raises:
            OSError: If that fails.

        """
        return self._write(payload, ".part", sync=True)

    def adopt(self, part: Path) -> None:
        """
        Rename the file from `write_through` to its final name.

        Raises:
            OSError: If that fails.

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
