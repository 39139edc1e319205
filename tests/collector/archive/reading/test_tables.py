"""Reading an archive: exact, by range, with holes named; and by DuckDB and Polars unaided."""

import datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from collector.archive.journal import segment_file
from collector.archive.journal.segment_file import Entry, Note
from collector.archive.reading.book_at import book_at
from collector.archive.reading.tables import HolesError, HolesWarning, read
from collector.archive.sealing import seal
from collector.archive.storage import layout, manifest
from shards.protocol.events import Oracle, Price
from shards.protocol.frames import KIND_BY_CHANNEL
from tests.collector.archive import written
from tests.collector.archive.written import (
    DAY,
    SPAN,
    SYMBOL,
    amount,
    change,
    entry,
    instant,
    sealed,
    trades,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Heights 101 to 129 of one market over midnight, the last of them in the journal only."""
    sealed(tmp_path / "archive", 101, 125)
    return tmp_path / "archive"


def test_every_change_and_trade_is_a_row_once_sealed_or_not(root: Path) -> None:
    assert [line.first for line in manifest.read(root)] == [100, 110]
    book = read(root, "book").arrow
    assert book["sequence"].to_pylist() == list(range(101, 126))
    found = read(root, "trades").arrow
    assert found["trade_id"].to_pylist() == [f"{h}_{n}" for h in range(101, 126) for n in range(2)]
    assert set(found["notional"].to_pylist()) == {Decimal("30.000000000000000000")}


def test_a_part_over_midnight_has_a_file_under_each_date(root: Path) -> None:
    files = [f for f in manifest.current(manifest.read(root)).values() if f.channel == "book"]
    # Midnight is at height 120: 60 s of half seconds after height 0.
    assert instant(120) == DAY
    assert {(f.date, f.first) for f in files} == {("2026-11-27", 100), ("2026-11-27", 110)}
    sealed_more = root.parent / "more"
    sealed(sealed_more, 115, 139)
    files = [
        f for f in manifest.current(manifest.read(sealed_more)).values() if f.channel == "book"
    ]
    assert {(f.date, f.first, f.rows) for f in files} == {
        ("2026-11-27", 110, 5),
        ("2026-11-28", 120, 10),
        ("2026-11-28", 130, 10),
    }


def test_ranges_are_heights_or_instants(root: Path) -> None:
    assert read(root, "book", start=104, end=106).arrow["height"].to_pylist() == [104, 105, 106]
    since = datetime.datetime(2026, 11, 27, 23, 59, 59, tzinfo=datetime.UTC)
    assert read(root, "book", start=since, end="2026-11-28").arrow["height"].to_pylist() == [
        118,
        119,
    ]
    with pytest.raises(ValueError, match="two heights or two instants"):
        read(root, "book", start=104, end="2026-11-28")
    with pytest.raises(ValueError, match="neither a height nor an instant"):
        read(root, "book", start="yesterday")
    with pytest.raises(ValueError, match="no channel 'quotes'"):
        read(root, "quotes")


def test_amounts_are_exact_or_floats_or_texts(root: Path) -> None:
    price = "20.000000000000000000"
    assert read(root, "trades").arrow["price"][0].as_py() == Decimal(price)
    assert read(root, "trades", decimals="text").arrow["price"][0].as_py() == price
    assert read(root, "trades", decimals="float").arrow["price"][0].as_py() == 20.0
    assert read(root, "book", decimals="text").arrow["asks"][0].as_py() == [
        {"price": "1101.000000000000000000", "quantity": "2.000000000000000000"}
    ]


def test_a_book_is_that_after_a_height(root: Path) -> None:
    for height in (101, 109, 110, 117, 125):
        found = book_at(root, SYMBOL, height)
        expected = written.whole(height)
        assert found.height == height
        assert [(f"{p:f}", f"{q:f}") for p, q in found.bids] == expected.bids
        assert [(f"{p:f}", f"{q:f}") for p, q in found.asks] == expected.asks
    with pytest.raises(HolesError, match="no whole book"):
        book_at(root, SYMBOL, 20)


def test_a_hole_is_named_to_the_height(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    had = [h for h in range(101, 120) if h not in (104, 105)]
    made = [entry("book", written.whole(100))]
    made += [e for h in had for e in (entry("book", change(h)), entry("trades", trades(h)))]
    notes = [Note("lost", SYMBOL, 104, 105, "cut"), Note("gone", "", 104, 105)]
    written.write(root, made, notes, begin=101)
    for first in (100, 110):
        seal.seal(root, layout.part_of(first, SPAN), ts=DAY)
    with pytest.warns(HolesWarning, match="heights 104-105 of INJ-USDT are missing"):
        table = read(root, "trades")
    assert table.holes == {SYMBOL: [(104, 105)]}
    with pytest.raises(HolesError):
        read(root, "trades", start=101, end=110, holes="raise")
    assert not read(root, "trades", start=106, end=119, holes="raise").holes
    row = read(root, "coverage", holes="allow").arrow.to_pylist()[0]
    assert (row["due"], row["missing"], row["sequences_missing"]) == (9, 2, 2)
    with pytest.raises(HolesError, match="changes 104 to 105"):
        book_at(root, SYMBOL, 108)


def test_the_same_facts_have_the_same_digest_however_they_came(tmp_path: Path) -> None:
    """One recorder heard everything live, the other had some of it again, late and twice."""
    sealed(tmp_path / "a", 100, 119)
    made = [entry("book", written.whole(99))]
    for height in reversed(range(100, 120)):
        source = "replay" if height % 3 else "chain-grpc"
        made += [entry("book", change(height, source)), entry("trades", trades(height, source))]
        made += [entry("trades", trades(height, "replay"))]
    written.write(tmp_path / "b", made, begin=100)
    for first in (100, 110):
        seal.seal(tmp_path / "b", layout.part_of(first, SPAN), ts=DAY)
    digests = [
        {path: file.facts_sha256 for path, file in manifest.current(manifest.read(root)).items()}
        for root in (tmp_path / "a", tmp_path / "b")
    ]
    assert digests[0] == digests[1]
    assert all(digests[0][path] for path in digests[0] if "book" in path or "trades" in path)


def test_duckdb_and_polars_read_the_folder_unaided(root: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    polars = pytest.importorskip("polars")
    query = f"""
        SELECT sum(notional), count(*), max(sequence) - min(sequence) + 1 FROM (
          SELECT notional, NULL AS sequence FROM read_parquet('{root}/channel=trades/**/*.parquet')
          UNION ALL
          SELECT NULL, sequence FROM read_parquet('{root}/channel=book/**/*.parquet'))
    """
    assert duckdb.connect().sql(query).fetchall() == [(Decimal(30 * 38), 19 * 2 + 19, 19)]
    frame = polars.scan_parquet(f"{root}/channel=trades/**/*.parquet").collect()
    assert frame["notional"].sum() == Decimal(30 * 38)
    assert polars.DataFrame(read(root, "trades")).shape == (50, 23)


def test_a_book_heard_while_joining_begins_the_first_part(tmp_path: Path) -> None:
    """The recorder joined at 107 and begins at 110: the part of 107 is never sealed."""
    root = tmp_path / "archive"
    made = [entry("book", written.whole(107)), *(entry("book", change(h)) for h in range(108, 130))]
    written.write(root, made, begin=110)
    for first in (110, 120):
        seal.seal(root, layout.part_of(first, SPAN), ts=DAY)
    wholes = read(root, "keyframe", holes="allow").arrow
    assert wholes["sequence"].to_pylist() == [109, 119]
    assert wholes["reason"].to_pylist() == ["part", "part"]
    assert [f"{p:f}" for p, _ in book_at(root, SYMBOL, 112).bids] == [
        p for p, _ in written.whole(112).bids
    ]


def test_what_is_lost_and_not_sealed_yet_is_named(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    made = [entry("trades", trades(h)) for h in range(101, 109) if h != 105]
    written.write(root, made, [Note("lost", SYMBOL, 105, 105, "cut")], begin=101)
    with pytest.warns(HolesWarning, match="heights 105 of INJ-USDT are missing"):
        assert len(read(root, "trades")) == 14
    with pytest.warns(HolesWarning, match="heights 105 of INJ-USDT"):
        read(root, "trades", start=104, end=106)
    assert not read(root, "trades", start=106, end=108, holes="raise").holes
    assert not read(root, "trades", start="2026-11-28", holes="raise").holes


def test_a_part_that_is_sealed_during_a_read_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "archive"
    sealed(root, 101, 109)
    written.write(root, [entry("trades", trades(h)) for h in range(110, 120)], begin=101)
    read_manifest, was_sealed = manifest.read, False

    def then_sealed(of: Path) -> list[manifest.Line]:
        nonlocal was_sealed
        lines = read_manifest(of)
        if not was_sealed:
            was_sealed = True
            # As a recorder may, between a look at the manifest and one at the journal.
            seal.seal(of, layout.part_of(110, SPAN), ts=DAY)
            for path in segment_file.segments(of):
                path.unlink()
        return lines

    monkeypatch.setattr(manifest, "read", then_sealed)
    assert len(read(root, "trades")) == 2 * 19


def test_an_oracle_may_be_named_as_the_chain_spells_it(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    price = Oracle("BTC/USD", 104, instant(104), 1, "chain-ws", [Price("pyth", amount(5))])
    made = Entry("oracle.BTC-USD.", KIND_BY_CHANNEL["oracle"], 104, msgspec.msgpack.encode(price))
    written.write(root, [made], begin=101)
    for name in ("BTC/USD", "BTC-USD", "BTC*", "*"):
        assert read(root, "oracle", markets=name).arrow["symbol"].to_pylist() == ["BTC/USD"]


def test_a_height_may_be_numpys(root: Path) -> None:
    numpy = pytest.importorskip("numpy")
    pandas = pytest.importorskip("pandas")
    first, last = numpy.array([104, 106])
    assert read(root, "book", start=first, end=last).arrow["height"].to_pylist() == [104, 105, 106]
    at = pandas.Timestamp(instant(106) + 1)
    assert len(read(root, "book", start=101, end=106)) == len(read(root, "book", end=at))


@pytest.mark.parametrize("name", ["market=FOO", "date=2020-01-01", "a[1] * 'x'?", "year=1/b c"])
def test_the_names_of_folders_above_an_archive_mean_nothing(tmp_path: Path, name: str) -> None:
    pytest.importorskip("duckdb")
    from collector.archive.reading import sql

    root = tmp_path / name / "archive"
    sealed(root, 115, 125)
    query = "SELECT market, date, count(*) FROM trades GROUP BY ALL"
    assert sql.rows(sql.connect(root), query)[1] == [[SYMBOL, "2026-11-27", 10]]
    columns = [row[0] for row in sql.rows(sql.connect(root), "DESCRIBE trades")[1]]
    assert columns[-2:] == ["overflow", "date"]
    assert "filename" not in columns
