"""Where an archive's folder is: it may be moved while it is recorded, and another one put there."""

import errno
from pathlib import Path
from typing import TypeAlias

from shards.protocol.errors import ConfigError

Place: TypeAlias = tuple[int, int]
"""The file system and the number of a folder, which do not change with its name."""


def place_of(root: Path) -> Place:
    """Return which folder this is."""
    found = root.stat()
    return found.st_dev, found.st_ino


def check_place(root: Path, place: Place) -> None:
    """
    Check that an archive is where it was.

    Raises:
        ConfigError: If it was moved or removed; not where the file system does not answer.

    """
    try:
        is_here = place_of(root) == place
    except OSError as error:
        is_here = error.errno not in (errno.ENOENT, errno.ENOTDIR)
    if not is_here:
        raise ConfigError(
            f"{root}: was moved or removed while it was recorded; a recorder of where it is now "
            "goes on with it"
        )
