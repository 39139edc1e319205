"""
How often a host is asked: one token bucket for all processes of a collector.

The bucket is a file of a few bytes, mapped by every process and changed under its lock.
It holds the instant of the next free turn; whoever takes that turn puts it one interval
further. So turns are evenly spaced, what one process leaves the others have, and a process
that dies can lose no more than the turn it has just taken: the kernel frees its lock, and
any bytes of the file are a valid bucket. Instants are monotonic, which is one clock for
all processes of a machine.
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
"""Of what a host allows: a turn that is used late is nearer to the next."""
_PAUSE_S: Final = 1.0
"""After a first refusal; each that comes soon after a pause doubles it."""
_MOST_PAUSE_S: Final = 30.0
_SOON_S: Final = 10.0
"""After a pause: so long turns are further apart than usual."""
_ASSUMED_PER_S: Final = 20.0
"""What a host allows that refuses, though no limit of it is known."""
_AHEAD_S: Final = 3600.0
"""No turn is further away; a file that says so is of another boot of the machine."""


class Usage(msgspec.Struct, frozen=True):
    """What a bucket has seen, for the status."""

    group: str
    """``chain`` or ``indexer``: what is counted apart."""
    host: str
    per_s: float
    """0: no limit is known."""
    made: int
    refused: int
    """Requests that the host answered with HTTP 429."""
    wait_s: float
    """How long the next request would wait."""


class _State(NamedTuple):
    """What the file holds."""

    due: float
    """The next turn."""
    per_s: float
    pause_s: float
    resumed: float
    """When the last pause ends or ended; 0 before the first."""
    made: int
    refused: int


class Bucket:
    """The turns at one host; without a path they are this process's alone."""

    def __init__(self, path: Path | None, per_s: float) -> None:
        self._interval_s = 1.0 / (_PART * per_s) if per_s else 0.0
        self._per_s = per_s
        self._file = -1
        if path is None:
            self._state = mmap.mmap(-1, _LAYOUT.size)
            return
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Room now, or an error now: a page that finds none later would be a fatal signal.
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
        Take the next turn and return how long it is away.

        None if another process is at the bucket right now: try again in a millisecond.
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
        """Return how far the next turn is from the one after it."""
        if not state.resumed or state.due >= state.resumed + _SOON_S:
            return self._interval_s
        # Too fast it was: half the pace, and half of that after each pause that did not help.
        return 2.0 * state.pause_s / (self._per_s or _ASSUMED_PER_S)

    def paused(self, now: float) -> bool:
        """Say whether the host has refused someone meanwhile: a turn taken before is void."""
        return self._read(now).resumed > now

    def refused(self, now: float, retry_after_s: float = 0.0) -> None:
        """The host said 429: nobody asks it for a while, nor for less than it demanded."""
        with self._locked():
            state = self._read(now)
            pause_s = state.pause_s
            if state.resumed <= now:
                # Not of those that were under way when the first refusal came.
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
        """Say how much the host was asked."""
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
            # Never wait: a process that is stopped while it holds the lock must not stop us.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
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
    """Read how much each host was asked by all processes whose buckets are in this folder."""
    now = time.monotonic()
    found = []
    try:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError:
        # Too many files are open: that is told elsewhere.
        return []
    for path in paths:
        bucket = Bucket(path, 0.0)
        found.append(bucket.usage(path.name, now))
        bucket.close()
    return found
