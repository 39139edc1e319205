"""`collector archive`: inspect and query an archive."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from collector.cli import options, value_types
from collector.cli.base import Group
from collector.cli.command import Command
from collector.settings import installed
from shards.protocol.errors import ConfigError
from shards.protocol.text import printable

if TYPE_CHECKING:
    import duckdb

    from collector.archive.maintenance.pruning import Plan

_folder: Final = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
_EXAMPLES: Final = """\b
Three questions:
  # What was traded in each market
  SELECT market, count(*) AS trades, sum(coalesce(notional,
    (price::DOUBLE * quantity::DOUBLE)::DECIMAL(38, 18))) AS turnover
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
        "compact": ("archive", "Merge late facts into their parts."),
        "prune": ("archive", "Remove the oldest parts, by age or size."),
    },
)
def archive() -> None:
    """Look at an archive that `collector record` made, and tidy it."""


@click.command(cls=Command, name="archive_coverage")
@_folder
@options.market("Symbol, ticker, or a glob of either; may be repeated.")
@options.json("Print one JSON object.")
def coverage(*, directory: Path, markets: tuple[str, ...], as_json: bool) -> None:
    """
    Show what an archive contains and lacks: one line per market, one mark per day.

    Missing heights are listed. Data that is received but not sealed yet is not counted.
    """
    installed.need("pyarrow", "archive")
    import shutil

    import msgspec

    from collector.archive.reading import overview

    found = overview.overview(directory, markets or ("*",))
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    width = shutil.get_terminal_size((80, 24)).columns
    # An archive may come from others.
    click.echo("\n".join(map(printable, overview.picture(found, width))))


@click.command(cls=Command, name="archive_compact")
@_folder
@options.option("--dry-run", is_flag=True, help="Only list what would be merged.")
@options.json("Print one JSON object.")
def compact(*, directory: Path, dry_run: bool, as_json: bool) -> None:
    """
    Merge late facts into their parts.

    A part with late facts has several files; afterwards it has one, with the digest of an
    archive that had everything at once. It may run beside a recorder, be killed, and be run again.
    """
    installed.need("pyarrow", "archive")
    import time

    import msgspec

    from collector.archive.maintenance import compaction
    from collector.archive.reading import overview

    with _refused():
        done = compaction.compact(directory, ts=time.time_ns(), dry_run=dry_run)
    if as_json:
        click.echo(msgspec.json.encode(done).decode())
        return
    if not done.parts:
        click.echo("nothing to merge: every part has one file a channel and date")
        return
    verb = "would become" if dry_run else "became"
    sizes = f"{overview.size(done.bytes_before)} before"
    if not dry_run:
        sizes += f", {overview.size(done.bytes_after)} now"
    click.echo(f"{done.files_before} files {verb} {done.files_after} ({sizes})")


@click.command(cls=Command, name="archive_prune")
@_folder
@options.option(
    "--keep", type=value_types.Days(), metavar="AGE",
    help="Remove parts whose last day (UTC) is older: 30d, 12w.",
)  # fmt: skip
@options.option(
    "--max-size", type=value_types.Size(), metavar="SIZE",
    help="Remove the oldest parts until the sealed files are no larger: 500MB, 200GB, 1.5TB.",
)  # fmt: skip
@options.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@options.option("--yes", is_flag=True, help="Do not ask.")
@options.json("Print one JSON object.")
def prune(
    *, directory: Path, keep: float | None, max_size: int | None, dry_run: bool, yes: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """
    Remove the oldest parts of an archive, by age, by size, or by both.

    Lists the parts and asks first. It may run beside a recorder, be killed, and be
    run again. Pruned parts are recorded: coverage and reads call them pruned, not missing.
    """
    if keep is None and max_size is None:
        raise click.UsageError("say what may stay: --keep AGE, --max-size SIZE, or both")
    installed.need("pyarrow", "archive")
    import time

    import msgspec

    from collector.archive.maintenance import pruning

    now = time.time_ns()
    plan = pruning.plan(directory, now_ns=now, keep_days=keep or 0, max_bytes=max_size or 0)
    if not as_json:
        click.echo(_said(plan))
    removes = bool(plan.parts) and not dry_run
    if removes and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError(
                "nobody can be asked here: --yes removes it, --dry-run only says"
            )
        click.confirm("Remove them?", abort=True)
    if removes:
        with _refused():
            pruning.prune(directory, plan.parts, ts=now)
    if as_json:
        document = msgspec.to_builtins(plan) | {"removed": removes}
        click.echo(msgspec.json.encode(document).decode())
    elif removes:
        click.echo("removed")


def _said(plan: "Plan") -> str:
    from collector.archive.reading.overview import size

    left = f"{plan.kept_parts} parts stay, {size(plan.kept_bytes)}"
    if not plan.parts:
        return f"nothing to remove: {left}"
    last = f" to {plan.last_date}" if plan.last_date > plan.first_date else ""
    dates = printable(plan.first_date + last)
    return (
        f"to be removed: {len(plan.parts)} parts, heights {plan.first} to {plan.last} ({dates}), "
        f"{plan.files} files, {size(plan.bytes)}\n{left}"
    )


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """Say in one sentence what the disk does not allow."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{error.filename or 'the archive'}: {error.strerror}") from None


@click.command(cls=Command, name="archive_sql", epilog=_EXAMPLES)
@_folder
@click.argument("query", required=False)
@options.json("Print the rows as one JSON array of objects, amounts as texts.")
def sql(*, directory: Path, query: str | None, as_json: bool) -> None:
    """
    Query an archive in SQL, with DuckDB: one view per channel, as listed in docs/archive.md.

    Without QUERY, statements are read from a prompt or from stdin; each ends with a semicolon.
    """
    installed.need("duckdb", "query")
    from collector.archive.reading import sql

    connection = sql.connect(directory)
    if said := sql.waiting(directory):
        click.echo(said, err=True)
    if query is not None:
        _answer(connection, query, as_json=as_json)
        return
    if not sys.stdin.isatty():
        for statement in sql.statements(line.rstrip("\n") for line in sys.stdin):
            _answer(connection, statement, as_json=as_json)
        return
    for statement in sql.statements(_typed()):
        try:
            _answer(connection, statement, as_json=as_json)
        except click.UsageError as error:
            click.echo(error.format_message(), err=True)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)


def _typed() -> Iterator[str | None]:
    """Yield the lines typed at a prompt; None for one that Ctrl-C gave up."""
    import readline

    click.echo(
        "One view per channel: SHOW TABLES; DESCRIBE trades; "
        "Ctrl-C gives a statement up, Ctrl-D ends.",
        err=True,
    )
    readline.set_auto_history(True)
    while True:
        try:
            line: str | None = input("archive> ")
        except KeyboardInterrupt:
            click.echo(err=True)
            line = None
        except EOFError:
            break
        yield line
    click.echo(err=True)


def _answer(connection: "duckdb.DuckDBPyConnection", query: str, *, as_json: bool) -> None:
    import json
    import shutil

    from collector.archive.reading import sql

    try:
        if as_json:
            names, rows = sql.rows(connection, query)
            click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))
            return
        width = shutil.get_terminal_size((80, 24)).columns
        if text := sql.show(connection, query, width=width):
            click.echo("\n".join(printable(line, len(line)) for line in text.split("\n")))
    except sql.QueryError as error:
        raise click.UsageError(f"the query cannot be answered: {error}") from None
