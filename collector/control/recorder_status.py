"""How the recorder of `start --record` stands, by the file that it writes once a second."""

import json
import time
from pathlib import Path
from typing import Any, Final

STATUS: Final = "_status.json"
"""Within the archive (collector/archive/layout.py, which needs no import for it)."""
_MOST_BYTES: Final = 65_536


def recorder_status(archive: str) -> dict[str, Any] | None:
    """Return what an archive's recorder last said, and how long ago; None without an archive."""
    if not archive:
        return None
    try:
        with (Path(archive) / STATUS).open("rb") as file:
            found = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError):
        return {"archive": archive, "state": "starting", "reason": ""}
    if not isinstance(found, dict):
        return {"archive": archive, "state": "starting", "reason": ""}
    age_s = max(0.0, (time.time_ns() - int(found.get("ts", 0))) / 1e9)
    return {"archive": archive, **found, "age_s": round(age_s, 3)}
