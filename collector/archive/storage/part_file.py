"""
Read a sealed file: return a table with its channel's columns, or raise an error that names the file.

A disk may corrupt a file, and someone may replace it. Each page has a checksum, so that a flipped
bit is an error instead of another price.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from collector.archive.storage.files import path_of
from collector.archive.storage.manifest import File
from collector.tables.arrow import schema_of
from collector.tables.schema import TABLES
from shards.protocol.errors import UNREADABLE, ConfigError

FAULTS: Final = (pa.ArrowException, OSError, MemoryError, *UNREADABLE)
"""What Arrow raises on foreign bytes."""
_FEW: Final = 100_000
"""Rows that one thread reads in less than 0.1 s; others would take more CPU than they save time."""
_FEWER: Final = 5_000
"""The same for a file of its own, which is waited for: about 3 ms."""
_FRESH: Final = 8 << 20
"""
Bytes that Arrow has held at once. Before that its memory is new to the process, and Linux clears it.

A read in steps takes two thirds of the memory, because it uses its buffers again: the first one
of a process takes a quarter less time. Later ones take 7 % more time in steps.
"""
_STEP: Final = 8_192
"""Rows."""
_TEXTS: Final = ("market_id", "market", "symbol", "side", "source")
"""Texts of few different values. Read as a dictionary, each of those is read and checked once."""


def read_file(
    root: Path, file: File, columns: Sequence[str] | None = None, *, is_alone: bool = False
) -> pa.Table:
    """
    Return a file of the manifest, or some of its columns.

    Args:
        root: The archive's folder.
        file: Which file.
        columns: Which to read; by default all.
        is_alone: Whether no other file is read at the same time, so that cores may be idle.

    Raises:
        FileNotFoundError: If it is missing: it may have been replaced a moment ago.
        ConfigError: If it is damaged, or does not have its channel's columns.

    """
    path = path_of(root, file.path)
    try:
        return table_of(path, file.channel, columns, file.rows, is_alone=is_alone)
    except FileNotFoundError:
        raise
    except FAULTS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"{path}: cannot be read: {reason}. Put it back from a copy: "
            "`collector verify --archive` names all that are damaged"
        ) from error


def table_of(
    source: Any,
    channel: str,
    columns: Sequence[str] | None = None,
    rows: int | None = None,
    *,
    is_alone: bool = False,
) -> pa.Table:
    """
    Read a channel's Parquet file from a path or a buffer.

    Args:
        source: The path or the buffer.
        channel: Which channel it should be.
        columns: Which to read; by default all.
        rows: How many it should have, if that is known.
        is_alone: Whether columns are read at the same time although the file is small.

    Raises:
        Exception: Whatever Arrow raises for invalid bytes.
        ValueError: If it does not have the channel's columns, or has another number of rows.

    """
    due = schema_of(TABLES[channel])
    with _opened(source, [name for name in _TEXTS if name in due.names]) as opened:
        _check(_plain(opened.schema_arrow), due)
        _check_rows(opened.metadata, rows)
        is_large = opened.metadata.num_rows > (_FEWER if is_alone else _FEW)
        table = _read(opened, None if columns is None else list(columns), is_large=is_large)
    _validate(table)
    return _as_due(table, due)


def _opened(source: Any, texts: list[str]) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(source, read_dictionary=texts, page_checksum_verification=True)
    except KeyError:
        # It lacks one of these columns, which `_check` names.
        return pq.ParquetFile(source, page_checksum_verification=True)


def _read(opened: pq.ParquetFile, names: list[str] | None, *, is_large: bool) -> pa.Table:
    if not is_large or pa.default_memory_pool().max_memory() >= _FRESH:
        return opened.read(names, use_threads=is_large)
    table = pa.Table.from_batches(opened.iter_batches(_STEP, columns=names, use_threads=True))
    if table.num_rows != opened.metadata.num_rows:
        raise ValueError(f"{table.num_rows} rows, where its footer has {opened.metadata.num_rows}")
    return table


def _as_due(table: pa.Table, due: pa.Schema) -> pa.Table:
    """Cast the columns that are not as they should be. Only those: a cast visits each level."""
    for at, found in enumerate(table.schema):
        field = due.field(found.name)
        if found.type != field.type:
            table = table.set_column(at, field, table.column(at).cast(field.type, safe=False))
    return table


def _plain(found: pa.Schema) -> pa.Schema:
    """Return a file's schema without our asking for dictionaries."""
    kinds = [field.type for field in found]
    types = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds]
    return pa.schema([field.with_type(kind) for field, kind in zip(found, types, strict=True)])


def _validate(table: pa.Table) -> None:
    """Check the values that may be invalid: texts. Levels are numbers; any bytes are one."""
    levels = [field.name for field in table.schema if pa.types.is_list(field.type)]
    table.validate()
    table.drop_columns([name for name in levels if name != "overflow"]).validate(full=True)


def _check(found: pa.Schema, due: pa.Schema) -> None:
    if found.equals(due) or found.equals(_former(due)):
        return
    for field in due:
        at = found.get_field_index(field.name)
        if at < 0 or found.field(at).type != field.type:
            kind = "none" if at < 0 else f"one of {found.field(at).type}"
            raise ValueError(f"no column {field.name} of {field.type}: there is {kind}")
    raise ValueError(
        f"columns that the channel has not: {', '.join({*found.names} - {*due.names})}"
    )


def _former(due: pa.Schema) -> pa.Schema:
    """Return the schema of files from before local instants were stored to the microsecond."""
    ns, us = pa.timestamp("ns"), pa.timestamp("us")
    return pa.schema([field.with_type(ns) if field.type == us else field for field in due])


def _check_rows(footer: pq.FileMetaData, due: int | None) -> None:
    """Compare all numbers of rows: Arrow reserves memory for any that a damaged footer claims."""
    if due is not None and footer.num_rows != due:
        raise ValueError(f"{footer.num_rows} rows, where the manifest has {due}")
    groups = [footer.row_group(n) for n in range(footer.num_row_groups)]
    if sum(group.num_rows for group in groups) != footer.num_rows:
        raise ValueError("its parts do not have the number of rows that the whole has")
