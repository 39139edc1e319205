"""The journal: whatever a kill leaves of its last write, all before it is there."""

import contextlib
import errno
import os
import random
import resource
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given, settings, strategies as st

from collector.archive.journal import segment_file
from collector.archive.journal.segment_file import Chunk, Cursor, Entry, Note, Writer


def _chunk(number: int) -> Chunk:
    entries = [Entry("book.INJ-USDT.", 1, number, bytes([number % 256]) * 30, 7, number)]
    notes = [Note("lost", "INJ-USDT", number, number, "cut")] if number % 3 == 0 else []
    cursors = [Cursor("trades.INJ-USDT.", 7, number, number, 0, number, True)]
    return Chunk(entries, notes, cursors if number % 2 else [])


def _written(root: Path, chunks: int) -> Path:
    writer = Writer(root)
    writer.begin(_chunk(0))
    for number in range(1, chunks):
        writer.append(_chunk(number))
    writer.sync()
    writer.close()
    return segment_file.segments(root)[-1]


def test_what_was_appended_is_read_again(tmp_path: Path) -> None:
    path = _written(tmp_path, 20)
    assert list(segment_file.read(path)) == [_chunk(number) for number in range(20)]


def test_cut_off_anywhere_only_the_last_chunk_is_lost_and_writing_goes_on(tmp_path: Path) -> None:
    path = _written(tmp_path, 6)
    content = path.read_bytes()
    with path.open("rb") as file:
        ends = [end for _, end in segment_file.chunks_of(file)]
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        assert len(list(segment_file.read(path))) == whole
        writer = Writer(tmp_path)
        writer.append(_chunk(99))
        writer.close()
        assert list(segment_file.read(path)) == [*(_chunk(n) for n in range(whole)), _chunk(99)]


def test_what_a_killed_writer_left_is_synced_before_the_next_segment(tmp_path: Path) -> None:
    _written(tmp_path, 3)
    writer = Writer(tmp_path)
    assert writer.unsynced_s() >= 0
    writer.begin(_chunk(0))
    # The chunk that begins the new segment waits for its turn.
    assert 0 <= writer.unsynced_s() < 60
    writer.sync()
    assert writer.unsynced_s() < 0


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_ends_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, at: int, flip: int
) -> None:
    path = _written(tmp_path_factory.mktemp("journal"), 6)
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= flip
    path.write_bytes(content)
    found = list(segment_file.read(path))
    assert found == [_chunk(number) for number in range(len(found))]
    assert len(found) < 6


def test_killed_inside_its_third_append_a_writer_leaves_two_chunks(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from collector.archive.journal.segment_file import *\n"
        "writer = Writer(Path(sys.argv[1])); writer.begin(Chunk([], []))\n"
        "for number in range(9): writer.append(Chunk([], [Note('gone', '', number, number)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "ARCHIVE_CRASH_AT": "journal.torn:3"}, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    (path,) = segment_file.segments(tmp_path)
    assert len(list(segment_file.read(path))) == 2
    assert path.stat().st_size > segment_file.whole_bytes(path)


def test_zeros_stand_behind_the_chunks_of_an_open_segment_alone(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.begin(_chunk(0))
    for number in range(1, 4):
        writer.append(_chunk(number))
    (path,) = segment_file.segments(tmp_path)
    content = path.read_bytes()
    assert len(content) > writer.bytes
    assert not any(content[writer.bytes :])
    assert segment_file.whole_bytes(path) == writer.bytes
    # As after a kill or a power cut: the next writer goes on behind the chunks.
    following = Writer(tmp_path)
    assert following.bytes == path.stat().st_size == writer.bytes
    following.append(_chunk(4))
    assert path.stat().st_size > following.bytes
    following.begin(_chunk(5))
    assert path.stat().st_size == segment_file.whole_bytes(path)
    following.close()
    found = [list(segment_file.read(path)) for path in segment_file.segments(tmp_path)]
    assert found == [[_chunk(number) for number in range(5)], [_chunk(5)]]


def test_long_journals_are_filled_again_and_again(tmp_path: Path) -> None:
    writer, rng = Writer(tmp_path), random.Random(1)
    writer.begin(Chunk([], []))
    chunks = [Chunk([Entry("book.A.", 1, n, rng.randbytes(300_000))]) for n in range(9)]
    for chunk in chunks:
        writer.append(chunk)
    (path,) = segment_file.segments(tmp_path)
    assert list(segment_file.read(path)) == [Chunk([], []), *chunks]
    writer.close()
    assert path.stat().st_size == writer.bytes > 2_700_000


def test_a_disk_without_room_for_zeros_takes_chunks(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        writer.begin(_chunk(0))
        for number in range(1, 9):
            writer.append(_chunk(number))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    (path,) = segment_file.segments(tmp_path)
    assert path.stat().st_size == writer.bytes
    writer.append(_chunk(9))
    assert list(segment_file.read(path)) == [_chunk(number) for number in range(10)]
    writer.close()


def test_chunks_decoded_together_are_those_decoded_one_by_one(tmp_path: Path) -> None:
    """Also those before one that cannot be decoded."""
    path = _written(tmp_path, 150)
    for foreign in (b"", msgspec.msgpack.encode(["no chunk"])):
        chunks = list(segment_file.read(path))
        stored = list(segment_file.read_stored(path))
        assert len(stored[0].entries) == 1
        heads = [head for some in stored for head in some.heads]
        entries = [entry for some in stored for entry in some.entries]
        notes = [note for some in stored for note in some.notes]
        assert list(map(msgspec.msgpack.encode, entries)) == [
            msgspec.msgpack.encode(entry) for chunk in chunks for entry in chunk.entries
        ]
        assert [head.height for head in heads] == [e.height for c in chunks for e in c.entries]
        assert notes == [note for chunk in chunks for note in chunk.notes]
        packed = zstandard.compress(foreign)
        end = segment_file.ends(path)[99]
        with path.open("r+b") as file:
            file.seek(end)
            file.write(segment_file.HEAD.pack(len(packed), zlib.crc32(packed)) + packed)


def test_segments_are_numbered_and_the_newest_is_written(tmp_path: Path) -> None:
    _written(tmp_path, 3)
    writer = Writer(tmp_path)
    assert writer.number == 1
    writer.begin(_chunk(50))
    writer.append(_chunk(51))
    writer.close()
    assert [path.stem for path in segment_file.segments(tmp_path)] == [
        "000000000001",
        "000000000002",
    ]
    assert len(list(segment_file.read(segment_file.segments(tmp_path)[0]))) == 3


@contextlib.contextmanager
def _no_longer_than(size: int) -> Iterator[None]:
    """Have the kernel refuse to make files longer, for the length of the block."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_write_that_the_disk_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    """The kernel's limit on a file's size refuses as a full disk does: after a part of it."""
    writer = Writer(tmp_path)
    writer.begin(_chunk(0))
    size = writer.bytes
    large = Chunk([Entry("book.INJ-USDT.", 1, 1, random.Random(1).randbytes(5_000))])
    with _no_longer_than(size + 1_000), pytest.raises(OSError) as caught:  # noqa: PT011
        writer.append(large)
    assert caught.value.errno == errno.EFBIG
    assert os.path.getsize(segment_file.segments(tmp_path)[0]) == size
    writer.append(large)
    writer.close()
    assert list(segment_file.read(segment_file.segments(tmp_path)[0])) == [_chunk(0), large]


def test_a_segment_that_cannot_be_begun_is_not_there_and_begun_again_under_its_number(
    tmp_path: Path,
) -> None:
    writer = Writer(tmp_path)
    writer.begin(_chunk(0))
    with _no_longer_than(10):
        for _ in range(3):
            with pytest.raises(OSError, match="large"):
                writer.begin(_chunk(1))
            assert [path.stem for path in segment_file.segments(tmp_path)] == ["000000000001"]
    writer.begin(_chunk(1))
    writer.append(_chunk(2))
    writer.close()
    assert [len(list(segment_file.read(p))) for p in segment_file.segments(tmp_path)] == [1, 2]
