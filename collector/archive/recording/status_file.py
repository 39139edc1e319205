"""The recorder's state in ``_status.json``, which the collector shows in its own status."""

import contextlib
from pathlib import Path
from typing import Final, Literal

import msgspec

from collector.archive.storage import layout
from collector.archive.storage.files import write_whole

_BYTES: Final = 2_048
State = Literal["joining", "recording", "full", "stopped"]


class Status(msgspec.Struct, kw_only=True):
    """The recorder's state: ``_status.json``."""

    state: State = "joining"
    reason: str = ""
    pid: int = 0
    ts: int = 0
    head: int = 0
    """The newest height seen."""
    complete: int = 0
    """Everything through it is in the journal or sealed."""
    sealed: int = 0
    """Everything through it is in Parquet files."""
    facts: int = 0
    to_fetch: int = 0
    """Missed heights that are being fetched."""
    fetched: int = 0
    gone: int = 0
    """Heights that no source has any more."""
    journal_bytes: int = 0


def write(root: Path, status: Status) -> None:
    """Write the file in place, which works on a full disk too; errors are ignored."""
    path, content = root / layout.STATUS, msgspec.json.encode(status).ljust(_BYTES)
    with contextlib.suppress(OSError):
        if not path.exists():
            write_whole(path, content)
            return
        with path.open("r+b", buffering=0) as file:
            file.write(content)
