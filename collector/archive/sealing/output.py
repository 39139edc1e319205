"""A sealed file being written: rows go in, digests and counts come out."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.archive.storage import layout, manifest
from collector.archive.storage.files import make_folder, publish
from collector.archive.storage.layout import Part
from collector.tables.arrow import ParquetFile, batch_of, batch_of_columns
from collector.tables.schema import TABLES, Row

_encode: Final = msgspec.msgpack.Encoder().encode
_BATCH: Final = 4_096


class Output:
    """One file on its way: rows in, digests and counts out."""

    def __init__(self, root: Path, channel: str, date: str, part: Part, suffix: str = "") -> None:
        self.path = layout.file_of(channel, date, part, suffix)
        self._final = root / self.path
        self._partial = self._final.with_name(self._final.name + layout.PARTIAL)
        self._table = TABLES[channel]
        self._channel, self._date, self._part = channel, date, part
        make_folder(self._final.parent)
        self._file = ParquetFile(self._partial, self._table)
        self._facts = [i for i, column in enumerate(self._table.columns) if column.is_fact]
        self._digest = hashlib.sha256()
        self._rows: list[Row] = []
        self._count = self._overflows = 0

    def add(self, row: Row, *, is_local: bool = False) -> None:
        """Take the next row, in the order of the table's key; local ones have no digest."""
        if not is_local:
            self._digest.update(_encode([row[i] for i in self._facts]))
        self._rows.append(row)
        self._count += 1
        if len(self._rows) >= _BATCH:
            self._flush()

    def add_columns(self, columns: Sequence[Any], facts: Sequence[Sequence[Any]]) -> None:
        """Take many rows, which come next, as their columns and those of fact; none is local."""
        self._flush()
        rows = list(zip(*facts, strict=True))
        # The digest covers the rows one after the other: an array without its header.
        encoded = memoryview(_encode(rows))
        self._digest.update(encoded[_array_head(len(rows)) :])
        self._count += len(rows)
        self._write(batch_of_columns(self._table, columns))

    def _flush(self) -> None:
        if self._rows:
            self._write(batch_of(self._table, self._rows))
            self._rows = []

    def _write(self, made: tuple[Any, int]) -> None:
        batch, overflows = made
        self._overflows += overflows
        self._file.add(batch)

    def close(self) -> manifest.File:
        """Give the file its name; return the manifest's entry for it."""
        self._flush()
        self._file.close()
        publish(self._partial, self._final)
        with self._final.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        return manifest.File(
            path=self.path,
            channel=self._channel,
            date=self._date,
            first=self._part.first,
            last=self._part.last,
            rows=self._count,
            bytes=self._final.stat().st_size,
            file_sha256=digest,
            facts_sha256="" if self._table.is_sampled else self._digest.hexdigest(),
            overflows=self._overflows,
        )


def _array_head(count: int) -> int:
    """Return how many bytes MessagePack takes for an array's head."""
    return 1 if count < 16 else 3 if count < 65_536 else 5
