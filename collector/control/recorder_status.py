"""The state of the recorder of `start --record`, from the file that it writes once a second."""

import time
from pathlib import Path
from typing import Final

import msgspec

from collector.client.summary import Recorder
from shards.protocol.errors import UNREADABLE

STATUS: Final = "_status.json"
"""Within the archive (collector/archive/storage/layout.py, which needs no import for it)."""
_MOST_BYTES: Final = 65_536


def recorder_status(archive: str) -> Recorder | None:
    """Return the recorder's last status and its age; None without an archive."""
    if not archive:
        return None
    try:
        with (Path(archive) / STATUS).open("rb") as file:
            found = msgspec.json.decode(file.read(_MOST_BYTES), type=Recorder)
        age_s = max(0.0, (time.time_ns() - (found.ts or 0)) / 1e9)
    except (OSError, *UNREADABLE, OverflowError):
        return Recorder(archive=archive, state="starting")
    return msgspec.structs.replace(found, archive=archive, age_s=round(age_s, 3))
