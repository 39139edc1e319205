"""
Processes that outlive the one that started them, and are found again by its successor.

A started process is recorded by its id and its time of creation, in a file of its own. So the host's
keeper may die, and the next one continues with what runs.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import psutil

_TAIL: Final = 4_096
_LARGEST: Final = 16 << 20
"""Size of a log, bytes, above which it is set aside."""
_CREATED_S: Final = 0.05
"""Two readings of a process's time of creation may differ by a tick of the kernel's clock."""


class Record(msgspec.Struct, frozen=True):
    """A started process."""

    pid: int
    created: float
    """Its time of creation, s since the epoch, which tells it from a later process of the same id."""
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

    def session(self) -> int:
        """
        Return the id of its session, which what it started belongs to; 0 if that is not certain.

        An id is not used again while a session has members. After a reboot it means nothing.
        """
        record = self.record
        if record is None or record.created < psutil.boot_time():
            return 0
        try:
            created = psutil.Process(record.pid).create_time()
        except psutil.NoSuchProcess:
            return record.pid
        return record.pid if abs(created - record.created) < _CREATED_S else 0

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
        created = psutil.Process(started.pid).create_time()
        self.record = Record(started.pid, created, tuple(command), tag)
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
        if self.record is None:
            return None
        with contextlib.suppress(ChildProcessError):
            # It may be a child of ours that has ended.
            os.waitpid(self.record.pid, os.WNOHANG)
        try:
            process = psutil.Process(self.record.pid)
            same = abs(process.create_time() - self.record.created) < _CREATED_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def save(path: Path, what: msgspec.Struct) -> None:
    """Write a file at once: readers see the former content or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(msgspec.json.encode(what))
    beside.replace(path)


def _load(path: Path) -> Record | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None
