"""
Named points at which a writer can be killed, for tests which prove that nothing is lost there.

``ARCHIVE_CRASH_AT=seal.renamed:3`` kills this process with SIGKILL when it reaches
that point for the third time. Without the variable a call costs one comparison.
"""

import os
import signal
from typing import Final

_name, _, _count = os.environ.get("ARCHIVE_CRASH_AT", "").partition(":")
_NAME: Final = _name
_left = int(_count or 1)


def reach(name: str) -> None:
    """Be at a named instant; die there if this is the one."""
    global _left
    if name != _NAME:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


def torn(name: str, data: bytes) -> bytes:
    """Return what is written before ``reach(name)``: half of the data if that is where to die."""
    global _left
    if name != _NAME:
        return data
    _left -= 1
    return data if _left > 0 else data[: len(data) // 2]
