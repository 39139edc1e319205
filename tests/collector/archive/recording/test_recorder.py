"""The recorder's process: whose facts a folder holds, what comes late, who may write."""

import asyncio
import os
from pathlib import Path

import pytest

from collector.archive.journal.segment_file import Chunk, Writer
from collector.archive.reading.tables import read
from collector.archive.recording.recorder import RecordConfig, Recorder
from collector.archive.sealing.additions import add
from collector.archive.sealing.carried_books import books_path, load_books
from collector.archive.storage import layout, manifest
from collector.archive.storage.files import open_archive, writing
from collector.archive.storage.recovery import recover
from collector.client.summary import ChainIdentity, Summary
from shards.protocol.errors import ConfigError
from shards.protocol.events import Ticker
from tests.collector.archive import written
from tests.collector.archive.written import DAY, SPAN, SYMBOL, entry, sealed, trades


def _recording(root: Path) -> Recorder:
    info = open_archive(root, span=SPAN, create=True)
    return Recorder(RecordConfig(to=str(root), connect="tcp://127.0.0.1:1"), root, info)


def _of_chain(chain_id: str) -> Summary:
    return Summary(chain=ChainIdentity(id=chain_id))


async def test_the_facts_of_another_chain_are_refused_by_name(tmp_path: Path) -> None:
    _recording(tmp_path)._meet(_of_chain("injective-1"))
    assert open_archive(tmp_path).chain_id == "injective-1"
    again = _recording(tmp_path)
    again._meet(_of_chain("injective-1"))
    with pytest.raises(
        ConfigError, match=r"holds the chain injective-1, and .* collects injective-888"
    ):
        again._meet(_of_chain("injective-888"))


async def test_a_description_that_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    recorder = _recording(tmp_path)
    # Nothing can be written beside it, as on a full disk.
    blocked = tmp_path / (layout.INFO + layout.PARTIAL)
    blocked.mkdir()
    with pytest.raises(OSError, match="directory"):
        recorder._meet(_of_chain("injective-1"))
    blocked.rmdir()
    recorder._meet(_of_chain("injective-1"))
    assert open_archive(tmp_path).chain_id == "injective-1"


def test_books_that_are_not_readable_are_not_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    part = layout.part_of(105, SPAN)
    open_archive(tmp_path, create=True)
    path = books_path(tmp_path, part.first)
    path.write_bytes(b"\x93" * 4_000)
    assert load_books(tmp_path, part) == []
    assert f"{path}: not readable" in caplog.text


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    open_archive(tmp_path, create=True)
    with (
        writing(tmp_path),
        pytest.raises(ConfigError, match=f"process {os.getpid()} is writing this archive"),
        writing(tmp_path),
    ):
        pass
    with writing(tmp_path):
        pass


def test_what_came_after_its_part_was_sealed_is_added_once(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    sealed(root, 101, 119)
    late = [entry("trades", trades(105)), entry("book", written.change(105))]
    late += [entry("trades", msg) for msg in [trades(106)]]
    before = read(root, "trades").arrow.num_rows
    part = layout.part_of(105, SPAN)
    # All of it is there already, so nothing changes.
    assert add(root, part, ts=DAY) is None
    gone = root / next(
        f.path
        for f in manifest.current(manifest.read(root)).values()
        if f.channel == "trades" and f.first == 100
    )
    manifest.append(
        root,
        manifest.Line(
            act="lose", first=100, last=109, files=[], removed=[str(gone.relative_to(root))]
        ),
    )
    gone.unlink()
    assert read(root, "trades").arrow.num_rows < before
    line = add(root, part, ts=DAY)
    assert line is not None
    assert [f.path for f in line.files if f.channel == "trades"] == [
        "channel=trades/date=2026-11-27/part-000000000100-000000000109.add1.parquet"
    ]
    assert read(root, "trades").arrow.num_rows == before
    assert add(root, part, ts=DAY) is None
    assert {row["market"] for row in read(root, "coverage").arrow.to_pylist()} == {SYMBOL}


def test_what_comes_late_and_has_no_block_time_is_of_the_day_on_which_it_came(
    tmp_path: Path,
) -> None:
    root, part = tmp_path / "archive", layout.part_of(105, SPAN)
    sealed(root, 101, 109)
    # As of a book that was fetched.
    top = Ticker(written.MARKET, 105, 105, 0, written.instant(105), "query", *("",) * 4)
    writer = Writer(root)
    writer.append(Chunk([entry("ticker", top)]))
    writer.close()
    line = add(root, part, ts=DAY)
    assert line is not None
    assert {file.date for file in line.files} == {"2026-11-27"}


def test_files_that_no_line_names_are_set_aside(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    sealed(root, 101, 109)
    stray = root / "channel=book/date=2026-11-27/part-000000000110-000000000119.parquet"
    partial = stray.with_name(stray.name + ".partial")
    for path in (stray, partial):
        path.write_bytes(b"half a file")
    files = set(manifest.current(manifest.read(root)))
    recover(root)
    assert {str(p.relative_to(root)) for p in root.glob("*/date=*/*")} == files
    assert len(list((root / layout.QUARANTINE).iterdir())) == 2


def test_a_folder_of_something_else_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        asyncio.run(_record(tmp_path))
    assert (tmp_path / "thesis.doc").read_text() == "mine"


async def _record(root: Path) -> None:
    from collector.archive.recording.recorder import record

    await record(RecordConfig(to=str(root), connect="tcp://127.0.0.1:1"))
