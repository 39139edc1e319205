"""The row of segments: what is synced when."""

from pathlib import Path

from collector.archive.journal import segment_file
from collector.archive.journal.segment_file import Chunk, Entry, Note
from collector.archive.journal.segments import Segments
from collector.archive.storage import layout
from collector.archive.storage.layout import Part


def _block(height: int) -> Chunk:
    return Chunk([Entry("book.INJ-USDT.", 1, height, b"change", 7, height)], [], [])


def _begun(root: Path) -> Segments:
    segments = Segments(root, 100)
    segments.begin(Chunk([], [Note("start", "INJ-USDT", 1, 1)]))
    segments.sync()
    return segments


def test_what_has_waited_long_enough_is_synced(tmp_path: Path) -> None:
    segments = _begun(tmp_path)
    segments.append(_block(1))
    segments.sync_older(3600)
    assert segments._writer.unsynced_s() >= 0
    segments.sync_older(0)
    assert segments._writer.unsynced_s() < 0


def test_nothing_is_synced_where_nothing_waits(tmp_path: Path) -> None:
    segments = _begun(tmp_path)
    segments.close()
    # A sync of the closed file would fail.
    segments.sync_older(0)


def test_the_oldest_chunk_decides(tmp_path: Path) -> None:
    segments = _begun(tmp_path)
    segments.append(_block(1))
    first = segments._writer._unsynced_at
    segments.append(_block(2))
    assert segments._writer._unsynced_at == first


def test_each_block_is_synced_once(tmp_path: Path) -> None:
    segments = _begun(tmp_path)
    segments.append(_block(1))
    segments.sync_block()
    assert segments._writer.unsynced_s() < 0
    segments.append(_block(1))
    segments.sync_block()
    assert segments._writer.unsynced_s() >= 0
    segments.append(_block(2))
    segments.sync_block()
    assert segments._writer.unsynced_s() < 0


def test_files_of_others_in_its_folder_are_left_alone(tmp_path: Path) -> None:
    segments = _begun(tmp_path)
    folder = tmp_path / layout.JOURNAL
    strangers = [folder / "copy of 000000000001.jnl", folder / "books-old.msgpack"]
    for stranger in strangers:
        stranger.write_bytes(b"mine")
    segments.append(_block(5))
    segments.begin(Chunk([], []))
    segments.drop(Part(0, 99))
    assert all(stranger.exists() for stranger in strangers)
    assert [path.name for path in segment_file.segments(tmp_path)] == ["000000000002.jnl"]
    segments.close()
    Segments(tmp_path, 100).close()
