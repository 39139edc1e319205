"""SQL over an archive: DuckDB with a view for each channel, over the files that count now."""

import contextlib
import errno
import io
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb

from collector.archive.journal import segment_file
from collector.archive.reading.overview import size
from collector.archive.storage import manifest
from collector.archive.storage.files import open_archive, with_files
from collector.tables.arrow import schema_of
from collector.tables.schema import TABLES
from shards.protocol.errors import ConfigError

_T = TypeVar("_T")
QueryError = duckdb.Error
_comment: Final = re.compile(r"--[^'\"]*$")
"""A comment at the end of a line; one with quotes may be part of a text."""

_DATE: Final = r"regexp_extract(filename, 'date=([0-9-]+)/[^/]+$', 1)::DATE"

EXAMPLES: Final = {
    "Candles of one minute": """\
SELECT date_trunc('minute', ts_event) AS minute, arg_min(price, (height, n)) AS open,
  max(price) AS high, min(price) AS low, arg_max(price, (height, n)) AS close,
  sum(quantity) AS volume
FROM trades WHERE market = 'INJ-USDT' AND side = 'buy' GROUP BY minute ORDER BY minute""",
    "What was traded in each market": """\
SELECT market, count(*) AS trades, sum(coalesce(notional,
  (price::DOUBLE * quantity::DOUBLE)::DECIMAL(38, 18))) AS turnover
FROM trades WHERE side = 'buy' GROUP BY market ORDER BY turnover DESC""",
    "Is every change of every book here?": """\
SELECT market, count(*) = max(sequence) - min(sequence) + 1 AS whole
FROM book GROUP BY market ORDER BY market""",
}
"""Queries that ``collector archive sql --help`` and docs/archive.md show."""


def connect(root: Path) -> duckdb.DuckDBPyConnection:
    """
    Open DuckDB in memory with a view over each channel of an archive.

    The views have the columns of docs/archive.md, and ``date``. Facts that are not sealed yet are not
    in them.

    Raises:
        ConfigError: If there is no archive, or a file of it is missing or cannot be read.

    """
    open_archive(root)
    return with_files(lambda: _connected(root))


def _connected(root: Path) -> duckdb.DuckDBPyConnection:
    files = manifest.current(manifest.read(root)).values()
    connection = duckdb.connect()
    for channel, table in TABLES.items():
        paths = [str(root / file.path) for file in files if file.channel == channel]
        if not paths:
            connection.register("_none", schema_of(table).empty_table())
            connection.execute(f"CREATE TABLE {channel} AS SELECT *, NULL::DATE AS date FROM _none")
            connection.unregister("_none")
            continue
        names = ", ".join(map(_quoted, paths))
        try:
            # Not by hive_partitioning: DuckDB would take folders above the archive for columns too.
            connection.execute(
                f"CREATE VIEW {channel} AS SELECT * EXCLUDE (filename), {_DATE} AS date FROM "
                f"read_parquet([{names}], hive_partitioning = false, filename = true)"
            )
        except duckdb.Error as error:
            if gone := next((path for path in paths if not os.path.lexists(path)), None):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), gone) from None
            raise ConfigError(f"{root}: {str(error).splitlines()[0]}") from None
    return connection


def _quoted(path: str) -> str:
    """Spell a path for DuckDB, which takes it for a pattern."""
    literal = re.sub(r"[*?[]", r"[\g<0>]", path)
    return "'" + literal.replace("'", "''") + "'"


def waiting(root: Path) -> str:
    """Say how much was received and is in no view yet; empty if nothing is."""
    if not (number := sum(path.stat().st_size for path in segment_file.segments(root))):
        return ""
    return (
        f"the newest facts ({size(number)}) are not sealed yet, and not in these tables: "
        "`collector.read` has them"
    )


def rows(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[list[str], list[list[Any]]]:
    """
    Run a query; return its columns and rows, amounts and instants as texts.

    Raises:
        QueryError: If the query fails.
        KeyboardInterrupt: If Ctrl-C ended it.

    """
    found = _interruptible(connection, lambda: _fetched(connection, query))
    return found[0], [[_plain(value) for value in row] for row in found[1]]


def _fetched(
    connection: duckdb.DuckDBPyConnection, query: str
) -> tuple[list[str], list[tuple[Any, ...]]]:
    found = connection.execute(query)
    return [column[0] for column in found.description or ()], found.fetchall()


def _interruptible(connection: duckdb.DuckDBPyConnection, run: Callable[[], _T]) -> _T:
    """Run a query in a thread, since DuckDB looks for Ctrl-C only now and then."""
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(run)
        try:
            return running.result()
        except KeyboardInterrupt:
            while not running.done():
                # It has no effect before the query runs.
                connection.interrupt()
                time.sleep(0.01)
            raise


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list():
            return [_plain(each) for each in value]
        case float() if not math.isfinite(value):
            # JSON has no such numbers.
            return None
        case None | bool() | int() | float() | str():
            return value
        case _:
            return f"{value:f}" if hasattr(value, "as_tuple") else str(value)


def show(connection: duckdb.DuckDBPyConnection, query: str, *, width: int) -> str:
    """
    Run a query; return its rows drawn as a table, or an empty text without rows.

    Raises:
        QueryError: If the query fails.
        KeyboardInterrupt: If Ctrl-C ended it.

    """
    return _interruptible(connection, lambda: _drawn(connection, query, width))


def _drawn(connection: duckdb.DuckDBPyConnection, query: str, width: int) -> str:
    # None for a statement without rows, although the stubs differ.
    relation: duckdb.DuckDBPyRelation | None = connection.sql(query)
    if relation is None:
        return ""
    printed = io.StringIO()
    # DuckDB prints its tables only to stdout.
    with contextlib.redirect_stdout(printed):
        relation.show(max_width=width, max_rows=200)
    return printed.getvalue().rstrip()


def statements(lines: Iterable[str | None]) -> Iterator[str]:
    """
    Put lines together until each statement is whole: it ends with a semicolon.

    None stands for a line that was given up: what was typed before it is dropped too.
    """
    waiting = ""
    for line in lines:
        if line is None:
            waiting = ""
            continue
        bare = _comment.sub("", line).rstrip()
        is_end = bare.endswith(";")
        waiting += (bare if is_end else line) + "\n"
        if is_end:
            yield waiting
            waiting = ""
    if waiting.strip():
        yield waiting
