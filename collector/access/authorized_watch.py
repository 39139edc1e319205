"""Follow the file of authorized keys: what is in force, and when that changes."""

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
"""Nobody writes so small a file for so long."""


class AuthorizedFile:
    """
    The authorized keys of a file, read again whenever it changed and has stayed so for one look.

    A file that has gone lets nobody in. One that cannot be read, or in which something is wrong,
    changes nothing: who was let in before still is, and the log says what is wrong.
    """

    def __init__(self, path: Path) -> None:
        """
        Read the file for the first time.

        Raises:
            ConfigError: If it cannot be read, or something in it is wrong.

        """
        self.path = path
        self.error = ""
        """Why the newest version of the file is not in force."""
        self._seen = self._newest = _version(path)
        """Of the version that is in force or was refused, and of the one seen at the last look."""
        self.current = authorized_file.read(path)

    def look(self, since_s: float = 0.0) -> bool:
        """
        Read it again if it changed; say whether other keys are in force now.

        Args:
            since_s: How long ago the look before was. After a second without one, a version of
                that age counts at once: no second look may come for long.

        """
        version = _version(self.path)
        last, self._newest = self._newest, version
        # A version that has just come may still be being written: half a file would shut
        # others out.
        is_whole = version == last or (since_s >= _WHOLE_S and _age_s(version) >= _WHOLE_S)
        if version == self._seen or not is_whole:
            return False
        self._seen = version
        if version is None:
            log.warning("%s is gone: nobody is let in any more", self.path)
            self.current, self.error = NOBODY, ""
            return True
        try:
            found = authorized_file.read(self.path)
        except ConfigError as error:
            self.error = str(error)
            log.error("%s; the keys that were let in before still are", error)
            return False
        before, self.current, self.error = self.current, found, ""
        log.info("%s: %d keys are let in%s", self.path, len(found.keys), _gone(before, found))
        return True


def _gone(before: Authorized, after: Authorized) -> str:
    names = sorted(before.by_name.keys() - after.by_name.keys())
    return f"; no more: {', '.join(names)}" if names else ""


def _age_s(version: tuple[int, ...] | None) -> float:
    """Return how long ago a version came; a file that is gone, or cannot be seen, is old."""
    return time.time() - version[3] / 1e9 if version and len(version) > 3 else float("inf")


def _version(path: Path) -> tuple[int, ...] | None:
    """Tell versions of a file apart; None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError:
        return (-1,)
    return (
        found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode,
    )  # fmt: skip
