"""File descriptors: the limit, and the number in use."""

import contextlib
import errno
import os
import resource
from typing import Final

_ENOUGH: Final = 65_536
_LEAST: Final = 92


def raise_limit() -> int:
    """Raise our limit as far as allowed; children inherit it. Return the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return limit()


def needed(shards: int) -> int:
    """Return the minimum that the busiest process of a collector needs."""
    return _LEAST + 4 * shards


def limit() -> int:
    """Return the limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def used() -> int:
    """Return the number in use; 0 if the system does not tell."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder))
        except OSError as error:
            if error.errno == errno.EMFILE:
                # Listing them needs a descriptor, and none is left.
                return limit()
    return 0
