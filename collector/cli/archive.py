"""`collector archive`: inspect and query an archive."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from collector.cli import options
from collector.cli.base import Group
from collector.cli.command import Command
from collector.settings import installed
from shards.protocol.errors import ConfigError

if TYPE_CHECKING:
    import duckdb

_folder: Final = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
_EXAMPLES: Final = """\b
Three questions:
  # What was traded in each market, exactly
  SELECT market, count(*) AS trades, sum(notional) AS turnover
  FROM trades WHERE side = 'buy' GROUP BY market ORDER BY turnover DESC
  # Candles of one minute
  SELECT date_trunc('minute', ts_event) AS minute,
    arg_min(price, (height, n)) AS open, max(price) AS high,
    min(price) AS low, arg_max(price, (height, n)) AS close,
    sum(quantity) AS volume
  FROM trades WHERE market = 'INJ-USDT' AND side = 'buy'
  GROUP BY minute ORDER BY minute
  # Is every change of every book here?
  SELECT market, count(*) = max(sequence) - min(sequence) + 1 AS whole
  FROM book GROUP BY market ORDER BY market"""


@click.group(
    cls=Group,
    lazy={
        "coverage": ("archive", "Show what is there and whole, by market and day."),
        "sql": ("archive", "Ask it in SQL."),
    },
)
def archive() -> None:
    """Look at an archive that `collector record` made."""


def need(module: str, extra: str) -> None:
    """
    Check that an extra is installed.

    Raises:
        ConfigError: If it is not; the text says how to install it.

    """
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise ConfigError(installed.missing(extra, f"the extra {extra!r} is"))


@click.command(cls=Command, name="archive_coverage")
@_folder
@options.market("Symbol, ticker, or a glob of either; may be repeated.")
@options.json("Print one JSON object.")
def coverage(*, directory: Path, markets: tuple[str, ...], as_json: bool) -> None:
    """
    Show what an archive contains and lacks: one line per market, one mark per day.

    Missing heights are listed. Data that is received but not sealed yet is not counted.
    """
    need("pyarrow", "archive")
    import shutil

    import msgspec

    from collector.archive import overview

    found = overview.overview(directory, markets or ("*",))
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    width = shutil.get_terminal_size((80, 24)).columns
    click.echo("\n".join(overview.picture(found, width)))


@click.command(cls=Command, name="archive_sql", epilog=_EXAMPLES)
@_folder
@click.argument("query", required=False)
@options.json("Print the rows as one JSON array of objects, amounts as texts.")
def sql(*, directory: Path, query: str | None, as_json: bool) -> None:
    """
    Query an archive in SQL, with DuckDB: one view per channel, as listed in docs/archive.md.

    Without QUERY, statements are read from a prompt or from stdin; each ends with a semicolon.
    """
    need("duckdb", "query")
    from collector.archive import querying

    connection = querying.connect(directory)
    if query is not None:
        _answer(connection, query, as_json=as_json)
        return
    asked = _typed() if sys.stdin.isatty() else (line.rstrip("\n") for line in sys.stdin)
    for statement in querying.statements(asked):
        try:
            _answer(connection, statement, as_json=as_json)
        except click.UsageError as error:
            if not sys.stdin.isatty():
                raise
            click.echo(error.format_message(), err=True)


def _typed() -> Iterator[str]:
    import contextlib
    import readline

    click.echo("One view per channel: SHOW TABLES; DESCRIBE trades; Ctrl-D ends.", err=True)
    readline.set_auto_history(True)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            yield input("archive> ")
    click.echo(err=True)


def _answer(connection: "duckdb.DuckDBPyConnection", query: str, *, as_json: bool) -> None:
    import json
    import shutil

    from collector.archive import querying

    try:
        if as_json:
            names, rows = querying.rows(connection, query)
            click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))
            return
        width = shutil.get_terminal_size((80, 24)).columns
        if text := querying.show(connection, query, width=width):
            click.echo(text)
    except querying.QueryError as error:
        raise click.UsageError(f"QUERY cannot be answered: {error}") from None
