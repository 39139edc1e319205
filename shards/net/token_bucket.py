"""
How often a host is queried: one token bucket for all processes of a collector.

The bucket is a file of a few bytes, mapped by every process and changed under a file lock. It
holds the time of the next free turn; taking that turn moves it by one interval. Turns are
therefore evenly spaced, and what one process leaves is available to the others. A process that
dies loses at most the turn it has just taken: the kernel releases its lock, and any bytes in the
file are a valid bucket. Times are monotonic, which is one clock for all processes of a machine.
"""

import contextlib
import fcntl
import mmap
import os
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

_LAYOUT: Final = struct.Struct("<ddddQQ")
_PART: Final = 0.9
"""Share of a host's limit that is used: late turns end up closer to the next."""
_PAUSE_S: Final = 1.0
"""Pause after a first refusal; each further refusal soon after a pause doubles it."""
_MOST_PAUSE_S: Final = 30.0
_SOON_S: Final = 10.0
"""A refusal this soon after a pause doubles the pause; meanwhile turns are further apart."""
_ASSUMED_PER_S: Final = 20.0
"""Assumed limit of a host that refuses although none is configured."""
_AHEAD_S: Final = 3600.0
"""No turn is further ahead; a file that says so is from an earlier boot."""


class Usage(msgspec.Struct, frozen=True):
    """A bucket's counters, for the status."""

    group: str
    """``chain`` or ``indexer``, which are counted separately."""
    host: str
    per_s: float
    """Requests per second; 0: no limit known."""
    made: int
    refused: int
    """Requests answered with HTTP 429."""
    wait_s: float
    """How long the next request would wait now."""


class _State(NamedTuple):
    """The content of the file."""

    due: float
    """Time of the next turn."""
    per_s: float
    pause_s: float
    resumed: float
    """End of the last pause; 0 before the first."""
    made: int
    refused: int


class TokenBucket:
    """The turns for one host; without a path, of this process alone."""

    def __init__(self, path: Path | None, per_s: float) -> None:
        self._interval_s = 1.0 / (_PART * per_s) if per_s else 0.0
        self._per_s = per_s
        self._file = -1
        if path is None:
            self._state = mmap.mmap(-1, _LAYOUT.size)
            return
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Reserve the space now: a full disk later would be a fatal signal.
        try:
            os.posix_fallocate(self._file, 0, _LAYOUT.size)
        except AttributeError:
            os.ftruncate(self._file, _LAYOUT.size)
        except OSError:
            os.close(self._file)
            raise
        self._state = mmap.mmap(self._file, _LAYOUT.size)

    def take(self, now: float) -> float | None:
        """
        Take the next turn and return the seconds until it.

        None if another process holds the lock: try again in a millisecond.
        """
        with self._locked() as mine:
            if not mine:
                return None
            state = self._read(now)
            wait_s = state.due - now
            due = state.due + self._apart_s(state)
            self._write(state._replace(due=due, per_s=self._per_s, made=state.made + 1))
        return wait_s

    def _apart_s(self, state: _State) -> float:
        """Return the interval between two turns."""
        if not state.resumed or state.due >= state.resumed + _SOON_S:
            return self._interval_s
        # The limit was too high: halve the rate, again after each pause that did not help.
        return 2.0 * state.pause_s / (self._per_s or _ASSUMED_PER_S)

    def paused(self, now: float) -> bool:
        """Return whether a refusal has started a pause; turns taken before it are void."""
        return self._read(now).resumed > now

    def refused(self, now: float, retry_after_s: float = 0.0) -> None:
        """The host answered 429: no process queries it until the pause, or its demand, is over."""
        with self._locked():
            state = self._read(now)
            pause_s = state.pause_s
            if state.resumed <= now:
                # Do not count requests that were in flight at the first refusal.
                soon = state.resumed and now < state.resumed + _SOON_S
                pause_s = min(_MOST_PAUSE_S, 2.0 * pause_s) if soon else _PAUSE_S
                state = state._replace(resumed=now + random.uniform(0.5, 1.0) * pause_s)
            resumed = max(state.resumed, now + min(retry_after_s, _AHEAD_S / 2))
            self._write(
                state._replace(
                    due=max(state.due, resumed),
                    pause_s=pause_s,
                    resumed=resumed,
                    refused=state.refused + 1,
                )
            )

    def usage(self, name: str, now: float) -> Usage:
        """Return how much the host was queried."""
        state = self._read(now)
        group, _, host = name.partition(" ")
        return Usage(group, host, state.per_s, state.made, state.refused, state.due - now)

    def _read(self, now: float) -> _State:
        state = _State._make(_LAYOUT.unpack_from(self._state))
        return state if now < state.due < now + _AHEAD_S else state._replace(due=now)

    def _write(self, state: _State) -> None:
        _LAYOUT.pack_into(self._state, 0, *state)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        if self._file < 0:
            yield True
            return
        try:
            # Never block: a process that is stopped while holding the lock must not stop us.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            # A file system without locks: two processes may take one turn.
            yield True
            return
        try:
            yield True
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Unmap it; the file stays for the others."""
        self._state.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def bucket_name(group: str, host: str) -> str:
    """Return the file name of a host's bucket."""
    return f"{group} {host}"


def usage(folder: Path) -> list[Usage]:
    """Return the usage of each host, over all processes whose buckets are in this folder."""
    now = time.monotonic()
    found = []
    try:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError:
        # The file limit is reached, which is reported elsewhere.
        return []
    for path in paths:
        bucket = TokenBucket(path, 0.0)
        found.append(bucket.usage(path.name, now))
        bucket.close()
    return found
