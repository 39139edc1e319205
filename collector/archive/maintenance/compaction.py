"""
Compaction: merge the files of each part into one, as if nothing had come late.

Facts that came after their part was sealed are in separate files. Here they are merged in the order
of the table's key, so the file and its ``facts_sha256`` equal those of an archive that had all facts
at once. A date's folder is built beside the old one, named in the manifest, and replaces it
atomically: a reader that uses a glob sees either the old files or the new one.

It may run beside a recorder, be killed at any instant, and be run again.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import pyarrow as pa

from collector.archive.sealing.output import Output
from collector.archive.storage import layout, manifest
from collector.archive.storage.crash_points import reach
from collector.archive.storage.files import make_folder, open_archive, sealing, sync_folder
from collector.archive.storage.layout import Part
from collector.archive.storage.manifest import File
from collector.archive.storage.part_file import read_file
from collector.archive.storage.recovery import exchange, recover
from collector.tables.arrow import rows_from
from collector.tables.schema import TABLES
from shards.protocol.text import symbol_of

_ROWS: Final = 8_192
_ORDER: Final = "_order"
Progress: TypeAlias = Callable[[int, int], None]
"""Told the folders that are done, and how many there are."""


class Outcome(msgspec.Struct, kw_only=True):
    """What a compaction made."""

    parts: int = 0
    """Files that took the place of several."""
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0


def compact(
    root: Path, *, ts: int, dry_run: bool = False, progress: Progress = lambda done, total: None
) -> Outcome:
    """
    Merge late facts into their parts.

    Args:
        root: The archive's folder.
        ts: Now, ns since the epoch, for the manifest.
        dry_run: Only report what would be merged; the resulting bytes are not known then.
        progress: Called with the progress.

    Raises:
        ConfigError: If there is no archive, or it cannot be written.
        OSError: If the disk is full or fails; the archive is unchanged.

    """
    open_archive(root)
    outcome = Outcome()
    if dry_run:
        for groups in _several(root).values():
            for files in groups:
                _count(outcome, files, None)
        return outcome
    with sealing(root):
        # Finish an interrupted compaction, even if there is nothing else to merge.
        recover(root)
    folders = sorted(_several(root))
    for done, folder in enumerate(folders):
        # Held for one folder at a time, so that a recorder with a part to seal waits only that long.
        with sealing(root):
            recover(root)
            if (several := _several(root).get(folder)) is not None:
                _swap(root, folder, several, outcome, ts)
        progress(done + 1, len(folders))
    return outcome


def _several(root: Path) -> dict[str, list[list[File]]]:
    """Return the parts that have several files in one folder, by folder."""
    found: dict[tuple[str, Part], list[File]] = {}
    for file in manifest.current(manifest.read(root)).values():
        folder = layout.folder_of(file.channel, file.date)
        found.setdefault((folder, Part(file.first, file.last)), []).append(file)
    folders: dict[str, list[list[File]]] = {}
    for (folder, _), files in sorted(found.items()):
        if len(files) > 1 and files[0].channel != layout.COVERAGE:
            ordered = sorted(files, key=lambda file: layout.generation_of(file.path))
            folders.setdefault(folder, []).append(ordered)
    return folders


def _swap(root: Path, folder: str, groups: list[list[File]], outcome: Outcome, ts: int) -> None:
    """Build a date's folder beside, name it in the manifest, put it in the old one's place."""
    staging = root / layout.COMPACTING
    staged = staging / folder
    make_folder(staged)
    merged = [_merged(root, staging, files) for files in groups]
    removed = [file.path for files in groups for file in files]
    gone = {Path(path).name for path in removed}
    for path in (root / folder).iterdir():
        if path.name not in gone:
            _link(path, staged / path.name)
    sync_folder(staged)
    reach("compact.staged")
    line = manifest.Line(
        act="compact",
        first=min(file.first for file in merged),
        last=max(file.last for file in merged),
        files=merged,
        removed=removed,
        writer=f"process {os.getpid()}",
        ts=ts,
    )
    manifest.append(root, line)
    reach("compact.named")
    exchange(staged, root / folder)
    shutil.rmtree(staging)
    reach("compact.removed")
    for files, file in zip(groups, merged, strict=True):
        _count(outcome, files, file)


def _count(outcome: Outcome, before: list[File], after: File | None) -> None:
    outcome.parts += 1
    outcome.files_before += len(before)
    outcome.files_after += 1
    outcome.bytes_before += sum(file.bytes for file in before)
    outcome.bytes_after += after.bytes if after is not None else 0


def _link(path: Path, other: Path) -> None:
    try:
        os.link(path, other)
    except OSError:
        shutil.copy2(path, other)
        with other.open("rb") as copied:
            os.fsync(copied.fileno())


def _merged(root: Path, staging: Path, files: list[File]) -> File:
    """Write one file of the rows of several."""
    first, number = files[0], layout.generation_of(files[-1].path) + 1
    table, channel = TABLES[first.channel], first.channel
    part = Part(first.first, first.last)
    reason = table.place("reason") if channel == layout.KEYFRAME else -1
    output = Output(staging, channel, first.date, part, f".c{number}")
    for batch in _sorted(root, files).to_batches(_ROWS):
        for row in rows_from(table, batch):
            output.add(row, is_local=reason >= 0 and row[reason] != "part")
    reach("compact.half")
    return output.close()


def _sorted(root: Path, files: list[File]) -> pa.Table:
    """Return the rows of several files in the order in which sealing writes them."""
    table = TABLES[files[0].channel]
    found = pa.concat_tables([read_file(root, file) for file in files])
    names = [name for name in ("market_id", *table.key) if name in found.column_names]
    if "symbol" in names:
        # Topics spell them with dashes, and are sealed in the order of their names.
        spelled = [symbol_of(symbol) for symbol in found["symbol"].to_pylist()]
        found, names = found.append_column(_ORDER, pa.array(spelled, pa.string())), [_ORDER, *names]
    ordered: Any = found.sort_by([(name, "ascending") for name in dict.fromkeys(names)])
    return ordered.drop_columns([_ORDER]) if _ORDER in names else ordered
