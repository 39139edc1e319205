"""Files as they are written: row groups, encodings, and files from before."""

import random
from pathlib import Path
from typing import Any, Final

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collector.archive.reading.tables import read
from collector.archive.storage import manifest
from collector.archive.storage.part_file import read_file, table_of
from collector.tables import arrow
from collector.tables.arrow import ParquetFile, batch_of, schema_of
from collector.tables.schema import TABLES
from collector.verify.archived import facts_digest
from tests.collector.archive.written import DAY, amount, sealed

_TABLE: Final = TABLES["blocks"]
_US: Final = 1_000


def _written(path: Path, rows: list[tuple[Any, ...]], batch: int = 7) -> pq.FileMetaData:
    file = ParquetFile(path, _TABLE)
    for start in range(0, len(rows), batch):
        file.add(batch_of(_TABLE, rows[start : start + batch])[0])
    file.close()
    with pq.ParquetFile(path) as opened:
        expected = batch_of(_TABLE, rows)[0]
        assert opened.read().equals(pa.Table.from_batches([expected]))
        return opened.metadata


@pytest.mark.parametrize(
    ("rows", "groups"),
    [(0, [0]), (3, [3]), (20, [20]), (29, [29]), (30, [20, 10]), (65, [20, 20, 25])],
)
def test_the_last_row_group_is_not_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, groups: list[int]
) -> None:
    monkeypatch.setattr(arrow, "ROW_GROUP", 40)
    found = _written(tmp_path / "file", [(n, n, n * _US, None, "chain-ws", 0) for n in range(rows)])
    sizes = [found.row_group(n).num_rows for n in range(found.num_row_groups)]
    assert sizes == groups


def test_instants_that_repeat_are_in_a_dictionary_and_others_are_differences(
    tmp_path: Path,
) -> None:
    chance = random.Random(1)
    rows = [
        (n, DAY + n // 8 * 10**9, DAY + chance.randrange(10**9), DAY + n // 100 * 10**9, "x", 0)
        for n in range(400)
    ]
    found = _written(tmp_path / "file", rows).row_group(0)
    columns = [found.column(n) for n in range(found.num_columns)]
    encodings = {column.path_in_schema: column.encodings for column in columns}
    for name in ("ts_event", "ts_pub"):
        assert "RLE_DICTIONARY" in encodings[name], name
    for name in ("height", "ts_recv"):
        assert "DELTA_BINARY_PACKED" in encodings[name], name


def test_local_instants_are_kept_to_the_microsecond(tmp_path: Path) -> None:
    when = DAY + 123_456_789
    _written(tmp_path / "file", [(1, when, when, when + 999, "chain-ws", 0)])
    with pq.ParquetFile(tmp_path / "file") as opened:
        batch = opened.read().to_batches()[0]
    (row,) = arrow.rows_from(_TABLE, batch)
    assert row == (
        1,
        when,
        when // _US * _US,
        (when + 999) // _US * _US,
        "chain-ws",
        0,
    )


def _books(markets: int, each: int) -> list[tuple[Any, ...]]:
    chance = random.Random(2)
    rows: list[tuple[Any, ...]] = []
    for market in range(markets):
        for n in range(1, each + 1):
            bids = [(amount(chance.randrange(1, 400), 2), amount(chance.randrange(9)))]
            market_id, when = f"0x{market:064x}", DAY + n
            way = (when, when, "chain-ws", market % 2)
            rows.append((market_id, f"M{market}-USDT", n, n, when, False, bids, [], *way))
    return rows


@pytest.mark.parametrize(("markets", "is_plain"), [(1, False), (7, False), (8, True), (30, True)])
def test_prices_of_many_markets_are_in_no_dictionary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, markets: int, is_plain: bool
) -> None:
    # Two row groups, of different markets: their texts are in different dictionaries.
    monkeypatch.setattr(arrow, "ROW_GROUP", 20 * markets)
    rows = _books(2 * markets, 20)
    path = tmp_path / "file"
    file = ParquetFile(path, TABLES["book"])
    batch, _ = batch_of(TABLES["book"], rows)
    file.add(batch)
    file.close()
    with pq.ParquetFile(path) as opened:
        footer = opened.metadata
    assert footer.num_row_groups == 2
    for group in map(footer.row_group, (0, 1)):
        columns = [group.column(n) for n in range(group.num_columns)]
        dictionaries = {c.path_in_schema for c in columns if c.has_dictionary_page}
        assert ("bids.list.element.price" in dictionaries) is not is_plain
        assert {"bids.list.element.quantity", "market_id", "source"} <= dictionaries
    found = table_of(path, "book", rows=len(rows))
    assert found.schema.equals(schema_of(TABLES["book"]))
    assert found.equals(pa.Table.from_batches([batch]))
    assert table_of(path, "book", ["market", "bids"]).equals(found.select(["market", "bids"]))
    _equal_elsewhere(path, found)


def _equal_elsewhere(path: Path, due: pa.Table) -> None:
    """Compare what DuckDB and Polars make of a file."""
    bids = [level[0]["price"] for level in due["bids"].to_pylist()]
    query = f"SELECT market, bids[1].price FROM read_parquet('{path}')"
    with duckdb.connect() as connection:
        found = connection.execute(query).fetchall()
    assert found == list(zip(due["market"].to_pylist(), bids, strict=True))
    frame = polars.read_parquet(path)
    assert frame["market"].to_list() == due["market"].to_pylist()
    assert frame["bids"].list.first().struct.field("price").to_list() == bids


def _as_before(root: Path, channel: str) -> None:
    """Write a channel's files again as they were before local instants were microseconds."""
    for file in manifest.current(manifest.read(root)).values():
        if file.channel == channel:
            table = read_file(root, file)
            for name in ("ts_recv", "ts_pub"):
                at = table.column_names.index(name)
                table = table.set_column(at, name, table[name].cast(pa.timestamp("ns")))
            pq.write_table(table, root / file.path)


@pytest.mark.parametrize("channel", ["book", "trades"])
def test_older_files_are_read_beside_newer_ones(tmp_path: Path, channel: str) -> None:
    root = tmp_path / "archive"
    sealed(root, 100, 129)
    due = read(root, channel)
    digests = {path.name: facts_digest(path, channel) for path in _files(root, channel)}
    first = _files(root, channel)[0]
    newer = first.read_bytes()
    _as_before(root, channel)
    with pq.ParquetFile(first) as opened:
        assert opened.schema_arrow.field("ts_recv").type == pa.timestamp("ns")
    assert read(root, channel).arrow.equals(due.arrow)
    first.write_bytes(newer)
    found = read(root, channel, start=100, end=129)
    assert found.arrow.schema.equals(schema_of(TABLES[channel]))
    assert found.arrow.equals(due.arrow)
    assert digests == {path.name: facts_digest(path, channel) for path in _files(root, channel)}


def _files(root: Path, channel: str) -> list[Path]:
    return sorted(root.glob(f"channel={channel}/*/*.parquet"))
