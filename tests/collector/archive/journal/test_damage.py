"""A closed segment that a failing disk has damaged: what it lacks is named, and fetched again."""

import logging
from pathlib import Path

import pytest

from collector.archive.journal import segment_file
from collector.archive.journal.damage import lost_blocks
from collector.archive.journal.segment_file import Chunk, Note, Writer
from collector.archive.reading.tables import HolesWarning, read
from collector.archive.recording.recorder import RecordConfig, Recorder
from collector.archive.sealing import seal
from collector.archive.storage import layout
from collector.archive.storage.files import open_archive
from tests.collector.archive import written
from tests.collector.archive.written import DAY, MARKET, SPAN, SYMBOL, entry, trades

_BEGIN = [Note("market", SYMBOL, 0, 0, f"{MARKET} spot"), Note("start", SYMBOL, 101, 101)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Heights 101 to 106 in a closed segment, 107 to 119 in the newest."""
    root = tmp_path / "archive"
    written.write(root, [entry("trades", trades(h)) for h in range(101, 107)], begin=101)
    writer = Writer(root)
    writer.begin(Chunk([], [*_BEGIN, Note("complete", "", 106, 106)]))
    for height in range(107, 120):
        writer.append(Chunk([entry("trades", trades(height))]))
    writer.close()
    return root


def _damage(path: Path, chunk: int) -> None:
    """Change a byte in a segment's chunk."""
    content = bytearray(path.read_bytes())
    content[segment_file.ends(path)[chunk] - 1] ^= 0x55
    path.write_bytes(content)


def test_whole_segments_lack_nothing_and_the_newest_ends_with_its_last_whole_chunk(
    root: Path,
) -> None:
    assert len(read(root, "trades", holes="raise")) == 2 * 19
    _damage(segment_file.segments(root)[-1], -1)
    assert len(read(root, "trades", holes="raise")) == 2 * 18


@pytest.mark.parametrize(
    ("behind", "is_whole"), [(bytes(3_000_000), True), (bytes(9) + b"1", False)]
)
def test_zeros_that_a_power_cut_brings_back_are_no_damage(
    root: Path, behind: bytes, is_whole: bool
) -> None:
    segments = segment_file.segments(root)
    with segments[0].open("ab") as file:
        file.write(behind)
    assert (not lost_blocks(segments)) is is_whole


@pytest.mark.parametrize(
    ("chunk", "lost"),
    [(6, "105-107"), (4, "103-107"), (1, "101-107"), (0, "101-107")],
    ids=["its last", "in the middle", "its first block", "its beginning"],
)
def test_what_cannot_be_read_is_named_before_and_after_it_is_sealed(
    root: Path, chunk: int, lost: str
) -> None:
    _damage(segment_file.segments(root)[0], chunk)
    with pytest.warns(HolesWarning, match=f"heights {lost} of {SYMBOL} are missing"):
        read(root, "trades")
    seal.seal(root, layout.part_of(101, SPAN), ts=DAY)
    with pytest.warns(HolesWarning, match=f"heights {lost} of {SYMBOL} are missing"):
        read(root, "trades")


def test_a_recorder_fetches_it_again(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    damaged, following = segment_file.segments(root)
    _damage(damaged, 4)
    info = open_archive(root, span=SPAN)
    recorder = Recorder(RecordConfig(to=str(root), connect="tcp://127.0.0.1:1"), root, info)
    with caplog.at_level(logging.WARNING):
        recorder._resume(recorder._subscriber)
    assert recorder._intake.ledger.to_fetch() == [(103, 107)]
    assert f"damaged before {following}: the blocks from 103 to 107 are fetched again" in (
        caplog.text
    )


def test_once_it_was_fetched_nothing_is_missing(root: Path) -> None:
    _damage(segment_file.segments(root)[0], 4)
    writer = Writer(root)
    writer.append(Chunk([entry("trades", trades(h)) for h in range(103, 108)]))
    writer.append(Chunk([], [Note("filled", SYMBOL, 103, 107)]))
    writer.close()
    seal.seal(root, layout.part_of(101, SPAN), ts=DAY)
    assert len(read(root, "trades", holes="raise")) == 2 * 19
