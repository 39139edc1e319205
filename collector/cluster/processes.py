"""
Processes that outlive the one that started them, and are found again by its successor.

A started process is recorded by its id and when it started, in a file of its own. So the host's
keeper may die, and the next one continues with what runs. The start is counted since boot: the
host's clock may be set while the process runs.
"""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import psutil

from shards.protocol.errors import UNREADABLE

_TAIL: Final = 4_096
_LARGEST: Final = 16 << 20
"""Size of a log, bytes, above which it is set aside."""
_PROC: Final = Path("/proc")


class Record(msgspec.Struct, frozen=True):
    """A started process."""

    pid: int
    boot: str
    """The boot of its host or container: after another one, its id means nothing."""
    started: str
    """When it started, which tells it from a later process of the same id."""
    command: tuple[str, ...]
    tag: str = ""
    """What it was started for."""


class Kept:
    """One process that is to be found again, with its record and its log in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.record = _load(folder / "process.json")
        self.starts = 0
        self._stopping_since = 0.0

    def is_running(self) -> bool:
        """Whether it runs; a process that has ended is reaped."""
        return self._process() is not None

    def was_started_with(self, command: Sequence[str]) -> bool:
        """Whether it was started with these arguments, by whichever of Python's names."""
        return self.record is not None and self.record.command[1:] == tuple(command[1:])

    def session(self) -> int:
        """
        Return the id of its session, which what it started belongs to; 0 if that is not certain.

        An id is not used again while a session has members. After a reboot it means nothing.
        """
        record = self.record
        if record is None or record.boot != boot():
            return 0
        started = started_at(record.pid)
        return record.pid if started in ("", record.started) else 0

    def start(self, command: Sequence[str], tag: str, environment: Mapping[str, str]) -> None:
        """
        Start it in a session of its own.

        Raises:
            OSError: If it cannot be started.

        """
        self.trim()
        with (self._folder / "log").open("ab") as log:
            started = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=dict(environment),
                cwd="/",
            )
        # It is found again by its id, also by us.
        started.returncode = 0
        at = started_at(started.pid)
        self.record = Record(started.pid, boot(), at, tuple(command), tag)
        self.starts += 1
        self._stopping_since = 0.0
        save(self._folder / "process.json", self.record)

    def stop(self, patience_s: float) -> None:
        """Ask it to end; after a while, end it and its children. Call it until it is gone."""
        process = self._process()
        if process is None:
            return
        now = time.monotonic()
        with contextlib.suppress(psutil.NoSuchProcess):
            if not self._stopping_since:
                self._stopping_since = now
                process.send_signal(signal.SIGTERM)
            elif now - self._stopping_since > patience_s:
                for one in (*process.children(recursive=True), process):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()

    def trim(self) -> None:
        """Set the log aside when it is large; what ran before is kept once, as log.1."""
        path = self._folder / "log"
        if path.exists() and path.stat().st_size > _LARGEST:
            shutil.copyfile(path, self._folder / "log.1")
            # The process appends, so it goes on at the new end.
            os.truncate(path, 0)

    def last_words(self) -> str:
        """Return the last line of its log."""
        try:
            with (self._folder / "log").open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL))
                lines = log.read().decode(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _process(self) -> psutil.Process | None:
        if self.record is None or self.record.boot != boot():
            return None
        with contextlib.suppress(ChildProcessError):
            # It may be a child of ours that has ended.
            os.waitpid(self.record.pid, os.WNOHANG)
        try:
            process = psutil.Process(self.record.pid)
            same = started_at(self.record.pid) == self.record.started
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def started_at(pid: int) -> str:
    """
    Return when a process started; empty if there is none.

    On Linux in ticks since boot: psutil adds the boot's time, which changes when the clock is set.
    """
    if not sys.platform.startswith("linux"):
        with contextlib.suppress(psutil.Error):
            return str(psutil.Process(pid).create_time())
        return ""
    try:
        line = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return ""
    # The name of the program is in parentheses, and may contain both of them, and blanks.
    return line.rpartition(b")")[2].split()[19].decode()


@functools.cache
def boot() -> str:
    """Return what identifies this boot: of the kernel, and of the container if this is one."""
    if not sys.platform.startswith("linux"):
        return str(psutil.boot_time())
    kernel = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{kernel} {started_at(1)}"


def save(path: Path, what: msgspec.Struct, *, synced: bool = False) -> None:
    """
    Write a file at once: readers see the former content or the new one.

    Args:
        path: The file.
        what: Its content.
        synced: Whether it must be there after a power cut.

    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(msgspec.json.encode(what))
        if synced:
            file.flush()
            os.fsync(file.fileno())
    beside.replace(path)


def _load(path: Path) -> Record | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, *UNREADABLE):
        return None
