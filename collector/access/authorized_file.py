"""Follow the file of authorized keys: what is in force, and when that changes."""

import logging
import os
from pathlib import Path
from typing import Final

from collector.access import authorized
from collector.access.authorized import Authorized
from shards.protocol.errors import ConfigError

log = logging.getLogger(__name__)

NOBODY: Final = Authorized()


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
        self.current = authorized.read(path)

    def look(self) -> bool:
        """Read it again if it changed; say whether other keys are in force now."""
        version = _version(self.path)
        last, self._newest = self._newest, version
        # Somebody may still be writing a version that has just come: half a file would shut
        # others out.
        if version == self._seen or version != last:
            return False
        self._seen = version
        if version is None:
            log.warning("%s is gone: nobody is let in any more", self.path)
            self.current, self.error = NOBODY, ""
            return True
        try:
            found = authorized.read(self.path)
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
