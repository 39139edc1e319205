"""What a run needs from the system first: enough open files, and a folder for its sockets."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shards.protocol.errors import ConfigError
from shards.runtime import descriptors

_PREFIX: Final = "collector-"


def check_descriptors(shards: int) -> None:
    """
    Raise our limit of open files as far as allowed.

    Raises:
        ConfigError: If that is not enough to run at all.

    """
    least = descriptors.needed(shards)
    if (limit := descriptors.raise_limit()) < least:
        raise ConfigError(
            f"the limit of open files is {limit}, and {shards} shards need {least} a process: "
            "raise it (ulimit -n)"
        )


def _place() -> str:
    # A socket's path may have 107 bytes; a long TMPDIR leaves no room for its name.
    found = tempfile.gettempdir()
    return found if len(found) < 80 else "/tmp"


def admin_sockets() -> list[Path]:
    """Return the admin sockets of this user's collectors on this host."""
    found = []
    for path in Path(_place()).glob(f"{_PREFIX}*/admin"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid == os.geteuid():
                found.append(path)
    return sorted(found)


@contextlib.contextmanager
def runtime_folder() -> Iterator[Path]:
    """Create a folder that only our user can enter, for the sockets between our processes."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_place()))
    except OSError as error:
        raise ConfigError(
            f"no folder for the sockets between our processes: {error.strerror or error}; "
            "name one that can be written to with TMPDIR"
        ) from None
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            # Programs that clean up temporary files skip locked folders.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)
