"""`verify --archive`: every way in which an archive can be damaged is found and named."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from collector.archive.journal.segment_file import Note
from collector.archive.reading.book_at import book_at
from collector.archive.replay import events_of
from collector.archive.sealing import seal
from collector.archive.storage import layout, manifest
from collector.cli.main import cli
from collector.tables.rows import canonical
from collector.verify.archive_check import Check
from collector.verify.archived import file_digest
from collector.verify.block_results import ChainTrade, Sides
from tests.collector.archive import written
from tests.collector.archive.written import MARKET, SYMBOL, change, entry, sealed, trades

_SECOND: Final = "channel={}/date=2026-11-27/part-000000000110-000000000119.parquet"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three whole parts, the first and the last over a day's end; two files a channel and more."""
    sealed(tmp_path / "archive", 101, 129)
    return tmp_path / "archive"


def _sentences(root: Path) -> tuple[dict[str, int], str]:
    found = Check(root).run()
    return found.wrong, "\n".join(found.examples)


def _manifest(root: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    path = root / "_manifest.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _rewritten(
    root: Path, channel: str, make: Callable[[Any], Any], *, facts: bool = False
) -> None:
    """Write a file again, with its line of the manifest, so that only the rows are wrong."""
    path = _SECOND.format(channel)
    table = make(pq.ParquetFile(root / path).read())
    pq.write_table(table, root / path)

    def say(lines: list[dict[str, Any]]) -> None:
        for file in (file for line in lines for file in line["files"]):
            if file["path"] == path:
                file["file_sha256"], file["rows"] = file_digest(root / path), table.num_rows
                file["facts_sha256"] = "" if facts else file["facts_sha256"]

    _manifest(root, say)


def test_a_whole_archive_is_whole_and_its_facts_have_the_digests_of_the_manifest(
    root: Path,
) -> None:
    found = Check(root).run()
    assert found.equal, found.examples
    assert (found.first, found.last, found.markets) == (100, 129, 1)
    assert found.files == len(list(root.glob("*/date=*/*.parquet")))
    assert found.numbers_skipped == 0


def test_amounts_too_long_for_a_column_have_their_digest_too(tmp_path: Path) -> None:
    huge = "9" * 30 + "." + "0" * 18
    book = change(3)
    book.bids.append((huge, huge))
    made = [entry("book", book), *(entry("trades", trades(h)) for h in range(3, 9))]
    written.write(tmp_path / "archive", made)
    seal.seal(tmp_path / "archive", layout.part_of(0, written.SPAN), ts=written.DAY)
    assert Check(tmp_path / "archive").run().wrong == {}


def test_amounts_that_are_no_numbers_are_archived_as_texts(tmp_path: Path) -> None:
    """A broken node may send some, and a part that cannot be sealed would keep all others waiting."""
    root, odd = tmp_path / "archive", change(3)
    odd.bids[:0] = [("abc", written.amount(1)), (written.amount(7), "")]
    deals = trades(3)
    deals.trades[0] = replace(deals.trades[0], price="1_0", fee="-")
    written.write(
        root, [entry("book", written.whole(2)), entry("book", odd), entry("trades", deals)]
    )
    seal.seal(root, layout.part_of(0, written.SPAN), ts=written.DAY)
    assert Check(root).run().wrong == {}
    assert [f"{price:f}" for price, _ in book_at(root, SYMBOL, 3).bids] == [
        written.amount(n) for n in (3, 2)
    ]
    files = [*manifest.current(manifest.read(root)).values()]
    found = [t.record.event for t in events_of.records(root, files, ("book", "trades"), ("*",))]
    ordered = replace(odd, bids=canonical(odd.bids, highest_first=True))
    assert {msgspec.msgpack.encode(event) for event in (ordered, deals)} <= set(found)


def _cut(root: Path) -> None:
    path = root / _SECOND.format("trades")
    path.write_bytes(path.read_bytes()[:-40])


def _flip(root: Path) -> None:
    path = root / _SECOND.format("book")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _remove(root: Path) -> None:
    (root / _SECOND.format("book")).unlink()


def _stray(root: Path) -> None:
    path = root / _SECOND.format("book")
    shutil.copy(path, path.with_name("part-000000000900-000000000909.parquet"))


def _fewer_rows_said(root: Path) -> None:
    def say(lines: list[dict[str, Any]]) -> None:
        for file in (file for line in lines for file in line["files"]):
            file["rows"] -= file["path"] == _SECOND.format("trades")

    _manifest(root, say)


def _other_price(root: Path) -> None:
    def make(table: Any) -> Any:
        at = table.column_names.index("price")
        return table.set_column(at, "price", table["quantity"])

    _rewritten(root, "trades", make)


def _no_change(root: Path) -> None:
    _rewritten(root, "book", lambda t: t.filter(pc.not_equal(t["sequence"], 114)), facts=True)


def _change_twice(root: Path) -> None:
    _rewritten(root, "book", lambda t: pa.concat_tables([t, t.slice(3, 1)]), facts=True)


def _trade_twice(root: Path) -> None:
    _rewritten(root, "trades", lambda t: pa.concat_tables([t, t.slice(3, 1)]), facts=True)


def _other_notional(root: Path) -> None:
    def make(table: Any) -> Any:
        return table.set_column(table.column_names.index("notional"), "notional", table["price"])

    _rewritten(root, "trades", make, facts=True)


def _a_part_gone(root: Path) -> None:
    _manifest(root, lambda lines: lines.__delitem__(1))
    for path in (*root.glob("*/date=*/part-000000000110-*"), *root.glob("_journal/*")):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "kind", "said"),
    [
        (_cut, "file", "channel=trades/date=2026-11-27/part-000000000110"),
        (_flip, "file", "channel=book/date=2026-11-27/part-000000000110"),
        (_remove, "file", "is missing"),
        (_stray, "file", "part-000000000900-000000000909.parquet: no line of the manifest"),
        (_fewer_rows_said, "file", "20 rows, the manifest names 19"),
        (_other_price, "facts", "channel=trades/date=2026-11-27/part-000000000110"),
        (_no_change, "sequence", f"{SYMBOL} at height 115: changes 114 to 114 are missing"),
        (_change_twice, "sequence", f"{SYMBOL} at height 113: change 113 is there twice"),
        (_trade_twice, "trade", f"{SYMBOL} at height 111: trade 111_1 is there twice"),
        (_other_notional, "trade", "trade 110_0: notional is 20.000000000000000000, price times"),
        (_a_part_gone, "coverage", f"heights 110-119 of {SYMBOL}"),
    ],
)
def test_each_damage_is_found_and_named(
    root: Path, damage: Callable[[Path], None], kind: str, said: str
) -> None:
    damage(root)
    wrong, sentences = _sentences(root)
    assert kind in wrong
    assert said in sentences


def test_what_the_coverage_names_is_no_difference(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    made = [entry("book", written.whole(0))]
    made += [entry("book", change(h)) for h in range(1, 10) if h not in (4, 5)]
    written.write(root, made, [Note("gone", SYMBOL, 4, 5)])
    seal.seal(root, layout.part_of(0, written.SPAN), ts=written.DAY)
    found = Check(root).run()
    assert found.wrong == {}
    assert found.named_missing == 2


class _Record:
    """A chain that says of each block what the scripted market did."""

    def __init__(self, lowest: int = 1) -> None:
        self._lowest = lowest
        self.altered = 0

    def lowest(self) -> int:
        return self._lowest

    def record(self, height: int) -> tuple[list[ChainTrade], dict[tuple[str, int], Sides]]:
        event, book = trades(height), change(height)
        made = []
        for t in event.trades:
            money = (t.price, t.quantity, t.fee, t.execution_type)
            owner = (t.order_hash, t.subaccount_id, t.fee_recipient, t.cid, t.margin, t.payout)
            side = "buy" if height == self.altered else t.side
            made.append(ChainTrade(MARKET, (t.trade_id, side, *money, *owner)))
        return made, {(MARKET, height): (frozenset(book.bids), frozenset(book.asks))}


def test_every_trade_and_change_is_held_against_the_chain(root: Path) -> None:
    found = Check(root, _Record()).run()
    assert found.wrong == {}, found.examples
    assert found.blocks_compared == 29
    altered = _Record(lowest=105)
    altered.altered = 117
    found = Check(root, altered).run()
    assert (found.blocks_compared, found.blocks_unavailable) == (25, 4)
    assert found.wrong == {"chain": 1}
    said = f"channel=trades: {SYMBOL} at height 117: trade 117_0 differs: side is 'sell'"
    assert said in found.examples[0]


def test_what_the_chain_has_and_the_archive_not_is_named(root: Path) -> None:
    _no_change(root)
    found = Check(root, _Record()).run()
    assert f"channel=book: {SYMBOL} at height 114: change 114 is missing" in found.examples


def test_the_command_says_it_with_its_exit_code(root: Path) -> None:
    run = CliRunner().invoke(cli, ["verify", "--archive", str(root)])
    assert run.exit_code == 0, run.output
    assert run.stdout.splitlines()[-1] == "whole"
    _remove(root)
    run = CliRunner().invoke(cli, ["verify", "--archive", str(root), "--json"])
    assert run.exit_code == 4
    assert json.loads(run.stdout)["wrong"]["file"] == 1
    run = CliRunner().invoke(cli, ["verify", "--archive", os.devnull])
    assert run.exit_code == 3
    assert "is not a folder" in run.stderr
