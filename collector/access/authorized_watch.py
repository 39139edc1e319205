"""Watch the file of authorized keys, and tell when other keys come into force."""

import logging
import os
import time
from pathlib import Path
from typing import Final

from collector.access import authorized_file
from collector.access.authorized_file import Authorized
from shards.protocol.errors import ConfigError

log = logging.getLogger(__name__)

NOBODY: Final = Authorized()
_WHOLE_S: Final = 1.0
"""A version this old has been written completely."""


class AuthorizedFile:
    """
    The authorized keys of a file. A changed file is read once it is the same at two looks in a row.

    Without the file, no key may connect. If it cannot be read or is invalid, the keys from before
    stay in force, and the log says what is wrong.
    """

    def __init__(self, path: Path, *, must_be_valid: bool = True) -> None:
        """
        Read the file for the first time.

        Raises:
            ConfigError: If it cannot be read or is invalid. Where it need not be valid, no key may
                connect until it is.

        """
        self.path = path
        self.error = ""
        """Why the newest version of the file is not in force."""
        self._seen = self._newest = _version(path)
        """Versions of the file: the one that was read last, and the one at the last look."""
        try:
            self.current = authorized_file.read(path)
        except ConfigError as error:
            if must_be_valid:
                raise
            self.current, self.error = NOBODY, str(error)
            log.error("%s; no key may connect until that is corrected", error)

    def look(self, since_s: float = 0.0) -> bool:
        """
        Read the file again if it changed; return whether other keys are in force now.

        Args:
            since_s: Seconds since the previous look. After more than a second, a version of that
                age is read at once, because the next look may be far away.

        """
        version = _version(self.path)
        last, self._newest = self._newest, version
        # A new version may still be incomplete: half a file would lack keys, and shut
        # others out.
        is_whole = version == last or (since_s >= _WHOLE_S and _age_s(version) >= _WHOLE_S)
        if version == self._seen or not is_whole:
            return False
        self._seen = version
        if version is None:
            log.warning("%s is missing: no key may connect any more", self.path)
            self.current, self.error = NOBODY, ""
            return True
        try:
            found = authorized_file.read(self.path)
        except ConfigError as error:
            self.error = str(error)
            log.error("%s; the keys from before stay in force", error)
            return False
        before, self.current, self.error = self.current, found, ""
        log.info("%s: %d keys may connect%s", self.path, len(found.keys), _gone(before, found))
        return True


def _gone(before: Authorized, after: Authorized) -> str:
    names = sorted(before.by_name.keys() - after.by_name.keys())
    return f"; no more: {', '.join(names)}" if names else ""


def _age_s(version: tuple[int, ...] | None) -> float:
    """Return the age of a version in seconds; a missing or unreadable file is old."""
    return time.time() - version[3] / 1e9 if version and len(version) > 3 else float("inf")


def _version(path: Path) -> tuple[int, ...] | None:
    """Return a value that differs between versions of a file; None without the file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError:
        return (-1,)
    return (
        found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode,
    )  # fmt: skip
