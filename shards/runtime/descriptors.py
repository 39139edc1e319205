"""How many files and sockets this process may have open, and has."""

import contextlib
import errno
import os
import resource
from typing import Final

_ENOUGH: Final = 65_536
_LEAST: Final = 92


def raise_limit() -> int:
    """Raise our limit as far as we may; children inherit it. Return what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return limit()


def needed(shards: int) -> int:
    """Return how many the busiest process of a collector needs at least."""
    return _LEAST + 4 * shards


def limit() -> int:
    """Return how many there may be."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def used() -> int:
    """Return how many there are; 0 where the system does not say."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder))
        except OSError as error:
            if error.errno == errno.EMFILE:
                # Not even one more to look with.
                return limit()
    return 0
