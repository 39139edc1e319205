"""`archive coverage` and `archive sql`: what is there, named to the height; and questions to it."""

import functools
import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from collector.archive.journal import segment_file
from collector.archive.journal.segment_file import Note
from collector.archive.reading import sql
from collector.archive.reading.overview import overview, picture
from collector.archive.sealing import seal
from collector.archive.storage import layout
from collector.cli.main import cli
from collector.verify.archive_check import Check
from tests.collector.archive import written
from tests.collector.archive.written import DAY, SPAN, SYMBOL, change, entry, sealed, trades


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Heights 101 to 139 over midnight at 120; 113 and 114 are not available anywhere."""
    made = [entry("book", written.whole(100))]
    for height in range(101, 140):
        if height not in (113, 114):
            made += [entry("book", change(height)), entry("trades", trades(height))]
    written.write(tmp_path, made, [Note("gone", SYMBOL, 113, 114)], begin=101)
    for first in (100, 110, 120, 130):
        seal.seal(tmp_path, layout.part_of(first, SPAN), ts=DAY)
    return tmp_path


def test_each_day_has_its_numbers_and_its_holes(root: Path) -> None:
    found = overview(root)
    first, second = found.days
    assert (first.date, first.first, first.last) == ("2026-11-27", 101, 119)
    assert (first.due, first.missing, first.missing_ranges) == (19, 2, [(113, 114)])
    assert (first.book_updates, first.trades, first.sequences_missing) == (17, 34, 2)
    assert (second.date, second.due, second.missing, second.is_whole) == ("2026-11-28", 20, 0, True)
    assert found.holes == {SYMBOL: [(113, 114)]}


def test_the_picture_fits_and_is_never_whole_where_it_is_not(root: Path) -> None:
    lines = picture(overview(root), 80)
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if line.startswith(f"{SYMBOL} "))
    assert row.split()[1] == "▒█"
    assert " 94.87 %" in row
    assert f"  {SYMBOL}: 113-114" in lines


def test_many_days_share_a_mark(tmp_path: Path) -> None:
    sealed(tmp_path, 101, 119)
    day = overview(tmp_path).days[0]
    found = overview(tmp_path)
    dates = [f"2026-{month:02}-{n:02}" for month in (9, 10, 11) for n in range(1, 31)]
    found.days = [type(day)(market=SYMBOL, market_id="", date=date, first=1, last=2, due=2)
                  for date in dates]  # fmt: skip
    found.days[3].missing = 1
    lines = picture(found, 80)
    assert max(map(len, lines)) <= 80
    assert "3 days a mark" in "\n".join(lines)


def test_the_command_prints_either(root: Path) -> None:
    run = CliRunner().invoke(cli, ["archive", "coverage", str(root)])
    assert run.exit_code == 0, run.output
    assert "113-114" in run.stdout
    run = CliRunner().invoke(cli, ["archive", "coverage", str(root), "--json"])
    assert json.loads(run.stdout)["days"][0]["missing_ranges"] == [[113, 114]]
    run = CliRunner().invoke(cli, ["archive", "coverage", "/tmp"])
    assert run.exit_code == 3
    assert "no archive is here" in run.stderr


def test_every_channel_is_a_view_whether_it_has_files_or_not(root: Path) -> None:
    run = CliRunner().invoke(
        cli,
        ["archive", "sql", str(root), "SELECT count(*) AS n, min(date) AS d FROM book", "--json"],
    )
    assert json.loads(run.stdout) == [{"n": 37, "d": "2026-11-27"}]
    connection = sql.connect(root)
    for channel in layout_channels():
        connection.execute(f"SELECT date FROM {channel}").fetchall()


def layout_channels() -> list[str]:
    from collector.tables.schema import TABLES

    return list(TABLES)


@pytest.mark.parametrize("query", sql.EXAMPLES.values(), ids=list(sql.EXAMPLES))
def test_the_examples_of_the_help_run_and_are_shown_there(root: Path, query: str) -> None:
    run = CliRunner().invoke(cli, ["archive", "sql", str(root), query])
    assert run.exit_code == 0, run.output
    assert len(run.stdout.splitlines()) > 4
    shown = CliRunner().invoke(cli, ["archive", "sql", "--help"]).output
    assert "".join(query.split()) in "".join(shown.split())


def test_turnover_is_exact(root: Path) -> None:
    _, rows = sql.rows(sql.connect(root), list(sql.EXAMPLES.values())[1])
    # 37 blocks, one buy of 1.5 at 20 in each.
    assert rows == [[SYMBOL, 37, "1110.000000000000000000"]]


def test_statements_come_from_stdin_and_a_wrong_one_is_said(root: Path) -> None:
    run = CliRunner().invoke(
        cli, ["archive", "sql", str(root)], input="SELECT\n  41 + 1 AS x;\nSELECT 7 AS y;\n"
    )
    assert run.exit_code == 0, run.output
    assert "42" in run.stdout
    assert "7" in run.stdout
    run = CliRunner().invoke(cli, ["archive", "sql", str(root), "SELECT nothing FROM book"])
    assert run.exit_code == 2
    assert "nothing" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("ask", [sql.rows, functools.partial(sql.show, width=80)])
def test_ctrl_c_ends_a_query_and_not_the_session(root: Path, ask: Callable[..., Any]) -> None:
    connection = sql.connect(root)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        ask(connection, "SELECT count(*) FROM range(1000000000000) t(x) WHERE sqrt(x) = 0.5")
    assert ask(connection, "SELECT count(*) AS n FROM trades")


def test_a_statement_ends_with_a_semicolon_or_is_given_up() -> None:
    lines = ["SELECT 1", None, "SELECT", " 2; -- two", "SELECT 3"]
    assert list(sql.statements(lines)) == ["SELECT\n 2;\n", "SELECT 3\n"]


def test_what_waits_in_the_journal_between_sealed_parts_is_not_missing(tmp_path: Path) -> None:
    # A recorder was stopped before it sealed its last part, and `backfill` sealed what follows.
    made = [entry("book", written.whole(100))]
    for height in range(101, 140):
        made += [entry("book", change(height)), entry("trades", trades(height))]
    written.write(tmp_path, made, begin=101)
    for first in (100, 110, 130):
        seal.seal(tmp_path, layout.part_of(first, SPAN), ts=DAY)
    found = overview(tmp_path)
    assert found.holes == {}
    assert [(day.date, day.due, day.missing) for day in found.days] == [
        ("2026-11-27", 19, 0),
        ("2026-11-28", 10, 0),
    ]
    assert Check(tmp_path).run().wrong == {}
    for segment in segment_file.segments(tmp_path):
        segment.unlink()
    assert overview(tmp_path).holes == {SYMBOL: [(120, 129)]}
    assert {*Check(tmp_path).run().wrong} == {"coverage", "sequence"}
