"""
Pruning: remove the oldest parts, by age or by total size. Whole parts only.

The manifest records what was pruned, so that it does not count as a hole. A kill may leave files
that the manifest no longer names; the next writer removes them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from collector.archive.storage import layout, manifest
from collector.archive.storage.files import open_archive, sealing
from collector.archive.storage.layout import Part
from collector.archive.storage.manifest import File
from collector.archive.storage.recovery import recover
from collector.archive.storage.removal import remove

DAY_NS: Final = 86_400_000_000_000


class Plan(msgspec.Struct, kw_only=True):
    """What would go, and what would be left; heights include both ends."""

    parts: list[Part]
    first: int = 0
    last: int = 0
    first_date: str = ""
    last_date: str = ""
    files: int = 0
    bytes: int = 0
    kept_parts: int = 0
    kept_bytes: int = 0


def plan(root: Path, *, now_ns: int, keep_days: float = 0, max_bytes: int = 0) -> Plan:
    """
    Choose the parts to remove, oldest first; nothing is changed.

    Args:
        root: The archive's folder.
        now_ns: Now, ns since the epoch.
        keep_days: Parts whose last day (UTC) ended earlier are removed; 0 for any age.
        max_bytes: The oldest are removed until the sealed files fit; 0 for any size.

    Raises:
        ConfigError: If there is no archive.

    """
    open_archive(root)
    parts = _parts(root)
    left = sum(file.bytes for files in parts.values() for file in files)
    oldest = layout.date_of(int(now_ns - keep_days * DAY_NS)) if keep_days else ""
    gone = []
    for part, files in parts.items():
        is_old = bool(oldest) and max(file.date for file in files) < oldest
        if not is_old and not (max_bytes and left > max_bytes):
            break
        gone.append(part)
        left -= sum(file.bytes for file in files)
    return _plan(gone, parts, left)


def _parts(root: Path) -> dict[Part, list[File]]:
    """Return the files of each part, oldest part first."""
    found: dict[Part, list[File]] = {}
    for file in manifest.current(manifest.read(root)).values():
        found.setdefault(Part(file.first, file.last), []).append(file)
    return dict(sorted(found.items()))


def _plan(gone: list[Part], parts: dict[Part, list[File]], left: int) -> Plan:
    files = [file for part in gone for file in parts[part]]
    return Plan(
        parts=gone,
        first=gone[0].first if gone else 0,
        last=gone[-1].last if gone else 0,
        first_date=min((file.date for file in files), default=""),
        last_date=max((file.date for file in files), default=""),
        files=len(files),
        bytes=sum(file.bytes for file in files),
        kept_parts=len(parts) - len(gone),
        kept_bytes=left,
    )


def prune(root: Path, parts: Iterable[Part], *, ts: int) -> int:
    """
    Remove parts; return the bytes of their files.

    Raises:
        ConfigError: If the folder cannot be written.

    """
    freed = 0
    for part in parts:
        with sealing(root):
            recover(root)
            freed += remove(root, part, ts=ts)
    return freed
