"""docs/archive.md and examples/: the schema is that of the code, and whatever is shown runs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import duckdb
import polars
import pytest

from collector.tables.schema import TABLES
from tests.collector.archive.written import SYMBOL, sealed

_ROOT: Final = Path(__file__).parents[3]
_DOC: Final = (_ROOT / "docs" / "archive.md").read_text()
_TYPES: Final = {
    "text": "VARCHAR",
    "int": "BIGINT",
    "time": "TIMESTAMP_NS",
    "arrival": "TIMESTAMP",
    "decimal": "DECIMAL(38,18)",
    "bool": "BOOLEAN",
    "levels": "STRUCT(price DECIMAL(38,18), quantity DECIMAL(38,18))[]",
    "ranges": 'STRUCT("first" BIGINT, "last" BIGINT)[]',
}
_OVERFLOW: Final = 'STRUCT("column" VARCHAR, "text" VARCHAR)[]'


def schema() -> str:
    """Spell all tables as docs/archive.md does: ``python -m tests.collector.archive.test_docs``."""
    lines = []
    for name, table in TABLES.items():
        lines += [f"### `{name}`", "", f"Key: {', '.join(f'`{part}`' for part in table.key)}."]
        if table.is_sampled:
            lines[-1] += " Sampled: two archives may differ in it, so it has no `facts_sha256`."
        lines += ["", "| column | type | |", "|---|---|---|"]
        lines += [
            f"| `{column.name}` | `{_TYPES[column.type]}` | {'' if column.is_fact else 'local'} |"
            for column in table.columns
        ]
        lines.append(f"| `overflow` | `{_OVERFLOW}` | local |")
        lines.append("")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("docs") / "archive"
    sealed(path, 101, 139)
    return path


def test_the_schema_is_that_of_the_tables() -> None:
    assert schema().strip() in _DOC, "run python -m tests.collector.archive.test_docs"


def test_duckdb_sees_the_types_that_the_schema_names(root: Path) -> None:
    for channel in ("book", "trades", "keyframe"):
        found = duckdb.execute(
            f"DESCRIBE SELECT * EXCLUDE (channel, date) FROM '{root}/channel={channel}/*/*.parquet'"
        ).fetchall()
        expected = [(column.name, _TYPES[column.type]) for column in TABLES[channel].columns]
        assert [row[:2] for row in found] == [*expected, ("overflow", _OVERFLOW)]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", _DOC, re.S)


@pytest.mark.parametrize("query", _blocks("sql"))
def test_every_query_that_is_shown_has_rows(root: Path, query: str) -> None:
    rows = duckdb.execute(query.replace("ARCHIVE", str(root))).fetchall()
    assert rows


@pytest.mark.parametrize("code", _blocks("python"))
def test_the_python_that_is_shown_runs(root: Path, code: str) -> None:
    exec(compile(code.replace("ARCHIVE", str(root)), "docs/archive.md", "exec"), {})


def test_polars_and_duckdb_have_the_same_exact_sums(root: Path) -> None:
    from decimal import Decimal

    exact = Decimal("30.000000000000000000") * 78
    table = polars.read_parquet(f"{root}/channel=trades/**/*.parquet", hive_partitioning=True)
    assert table["notional"].sum() == exact
    row = duckdb.execute(
        f"SELECT sum(notional) FROM '{root}/channel=trades/*/*.parquet'"
    ).fetchone()
    assert row == (exact,)


@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("spread_and_depth.py", [SYMBOL, "10"], "110 891.000000000000000000 3.0"),
        ("candles.py", [SYMBOL], "2026-11-28 00:00:00 20.0"),
        ("coverage_of_a_day.py", ["2026-11-28"], f"{SYMBOL} whole 20 of 20 blocks"),
    ],
)
def test_the_examples_run(root: Path, script: str, arguments: list[str], expected: str) -> None:
    run = subprocess.run(
        [sys.executable, str(_ROOT / "examples" / script), str(root), *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert expected in run.stdout


if __name__ == "__main__":
    sys.stdout.write(schema())
