"""`archive compact` and `archive prune`: nothing changes but the files, whatever is killed."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.archive.journal import segment_file
from collector.archive.journal.segment_file import Chunk, Note, Writer
from collector.archive.maintenance import compaction, pruning
from collector.archive.reading import overview
from collector.archive.reading.book_at import book_at
from collector.archive.reading.tables import HolesError, HolesWarning, read
from collector.archive.sealing import seal
from collector.archive.sealing.additions import add
from collector.archive.storage import layout, manifest
from collector.archive.storage.files import sealing
from collector.archive.storage.layout import Part, part_of
from collector.archive.storage.part_file import read_file
from collector.verify.archive_check import Check
from collector.verify.archived import facts_digest
from tests.collector.archive import written
from tests.collector.archive.written import DAY, SPAN, SYMBOL, change, entry, sealed, trades

_FIRST, _LAST = 101, 139
_LOST = (104, 112, 113, 121)
"""Heights that come late; 120 is the first one after midnight."""
_COMPACT = (
    *("compact.half", "seal.written", "seal.renamed", "compact.staged", "manifest.torn"),
    *("manifest.appended", "compact.named", "compact.swapped", "compact.removed"),
)
_PRUNE = ("manifest.torn", "manifest.appended", "prune.removed")


def added_to(root: Path) -> None:
    """Make an archive in which some heights came after their parts were sealed."""
    heights = [height for height in range(_FIRST, _LAST + 1) if height not in _LOST]
    made = [entry("book", written.whole(_FIRST - 1))]
    for height in heights:
        made += [entry("book", change(height)), entry("trades", trades(height))]
    written.write(root, made, [Note("lost", SYMBOL, h, h) for h in _LOST], begin=_FIRST)
    parts = [part_of(first, SPAN) for first in range(100, _LAST, SPAN)]
    for part in parts:
        seal.seal(root, part, ts=DAY)
    writer = Writer(root)
    for height in _LOST:
        came = [
            entry("book", change(height, "replay")),
            entry("trades", trades(height, "replay")),
        ]
        writer.append(Chunk(came, [Note("filled", SYMBOL, height, height)]))
    writer.sync()
    writer.close()
    for part in parts:
        add(root, part, ts=DAY)


def digests(root: Path) -> dict[tuple[str, str, int], str]:
    files = manifest.current(manifest.read(root)).values()
    # No whole book begins a part that was sealed after a hole: keyframes are not facts of blocks.
    of = ("book", "trades")
    return {(f.channel, f.date, f.first): f.facts_sha256 for f in files if f.channel in of}


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.glob("*/date=*/*")}


def facts(root: Path) -> list[Any]:
    """Return all changes and trades by the archive's own reading, in the order of their keys."""
    book = read(root, "book", decimals="text", holes="raise").arrow
    fills = read(root, "trades", decimals="text", holes="raise").arrow
    rows: list[Any] = book.select(["market_id", "sequence", "height", "bids", "asks"]).to_pylist()
    rows.sort(key=lambda row: row["sequence"])
    of_trades = fills.select(["height", "n", "price", "quantity", "notional"]).to_pylist()
    return rows + sorted(of_trades, key=lambda row: (row["height"], row["n"]))


def tidy(root: Path, *arguments: str, crash_at: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "collector", "archive", arguments[0], str(root), *arguments[1:]],
        env={**os.environ, "ARCHIVE_CRASH_AT": crash_at},
        capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def check(root: Path) -> None:
    """Hold the archive against its manifest and digests, by other code than the archive's."""
    found = Check(root).run()
    assert not found.wrong, found.examples


# -- additions -------------------------------------------------------------------------


def test_what_was_fetched_for_other_parts_is_not_in_the_coverage_of_this_one(
    tmp_path: Path,
) -> None:
    added_to(tmp_path)
    for file in manifest.current(manifest.read(tmp_path)).values():
        if file.channel == layout.COVERAGE:
            rows = read_file(tmp_path, file).to_pylist()
            found = [(row["first_height"], row["last_height"], row["missing"]) for row in rows]
            assert found == [(max(file.first, _FIRST), file.last, 0)]


# -- compaction ------------------------------------------------------------------------


def test_a_compacted_archive_is_that_of_one_that_missed_nothing(tmp_path: Path) -> None:
    root, whole = tmp_path / "late", tmp_path / "whole"
    added_to(root)
    sealed(whole, _FIRST, _LAST)
    before, held = facts(root), digests(root)
    assert held != digests(whole)
    done = compaction.compact(root, ts=DAY)
    # Three parts of book and trades: one file instead of two each.
    assert (done.parts, done.files_before, done.files_after) == (6, 12, 6)
    assert digests(root) == digests(whole)
    assert facts(root) == before == facts(whole)
    for path, file in manifest.current(manifest.read(root)).items():
        if file.facts_sha256:
            assert facts_digest(root / path, file.channel) == file.facts_sha256
    check(root)


def test_compacting_twice_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    added_to(root)
    compaction.compact(root, ts=DAY)
    lines, files = (root / layout.MANIFEST).read_bytes(), names(root)
    assert compaction.compact(root, ts=DAY).parts == 0
    assert (root / layout.MANIFEST).read_bytes() == lines
    assert names(root) == files
    assert not (root / layout.COMPACTING).exists()


def test_what_is_left_half_done_is_finished_where_nothing_is_left_to_merge(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    added_to(root)
    for _ in range(6):
        # Each folder is merged and named in the manifest; the last one is not in its place.
        tidy(root, "compact", crash_at="compact.named")
    assert tidy(root, "compact").returncode == 0
    check(root)


def test_a_compacted_part_can_be_added_to_again(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    added_to(root)
    compaction.compact(root, ts=DAY)
    part, writer = part_of(_LAST, SPAN), Writer(root)
    # A part that had nothing late gets a change that no chain has, twice over.
    for sequence in (1_000, 1_001):
        late = msgspec.structs.replace(change(_LAST), sequence=sequence)
        writer.append(Chunk([entry("book", late)]))
        writer.sync()
        add(root, part, ts=DAY)
        compaction.compact(root, ts=DAY)
    writer.close()
    files = [f for f in manifest.current(manifest.read(root)).values() if f.channel == "book"]
    of_part = [f.path for f in files if (f.first, f.last) == part]
    assert len(of_part) == 1
    assert ".c4." in of_part[0]
    assert set(read(root, "book").arrow["sequence"].to_pylist()) >= {1_000, 1_001}


@pytest.mark.parametrize("point", _COMPACT)
@pytest.mark.parametrize("nth", [1, pytest.param(3, marks=pytest.mark.nightly)])
def test_killed_at_any_point_it_is_whole_before_and_after_the_next_run(
    tmp_path: Path, point: str, nth: int
) -> None:
    root = tmp_path / "archive"
    added_to(root)
    before = facts(root)
    assert tidy(root, "compact", crash_at=f"{point}:{nth}").returncode == -9
    # As it was left: nothing is lost or doubled for who reads it, by the manifest or by a glob.
    assert facts(root) == before
    assert book_at(root, SYMBOL, _LAST).sequence == _LAST
    seen = [p.name for p in root.glob("channel=book/*/*.parquet")]
    assert rows_of_glob(root) == _LAST - _FIRST + 1, seen
    done = tidy(root, "compact")
    assert done.returncode == 0, done.stderr
    assert facts(root) == before
    assert rows_of_glob(root) == _LAST - _FIRST + 1
    assert set(manifest.current(manifest.read(root))) == names(root)
    check(root)


def rows_of_glob(root: Path) -> int:
    """Count the rows of book as DuckDB sees them, who knows no manifest."""
    import duckdb

    row = duckdb.execute(f"SELECT count(*) FROM '{root}/channel=book/*/*.parquet'").fetchone()
    assert row is not None
    return int(row[0])


def test_it_waits_for_who_seals_and_the_command_says_what_it_did(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    added_to(root)
    with sealing(root):
        waiting = subprocess.Popen(
            [sys.executable, "-m", "collector", "archive", "compact", str(root)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(3)
    assert waiting.wait(90) == 0
    assert waiting.stdout is not None
    assert "12 files became 6" in waiting.stdout.read()
    waiting.stdout.close()
    assert "nothing to merge" in tidy(root, "compact").stdout


# -- pruning ---------------------------------------------------------------------------


def test_the_oldest_parts_go_and_are_called_pruned(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    sealed(root, _FIRST, _LAST)
    limit = sum(f.bytes for f in manifest.current(manifest.read(root)).values() if f.first >= 120)
    plan = pruning.plan(root, now_ns=DAY, max_bytes=limit)
    assert (plan.parts, plan.first, plan.last) == ([Part(100, 109), Part(110, 119)], 100, 119)
    assert pruning.prune(root, plan.parts, ts=DAY) == plan.bytes
    assert read(root, "trades", holes="raise").arrow["height"].to_pylist()[0] == 120
    with pytest.warns(HolesWarning, match="^heights 100-119 were pruned from this archive$"):
        found = read(root, "trades", start=100, end=139)
    assert (found.pruned, found.holes) == ([(100, 119)], {})
    with pytest.raises(HolesError, match="pruned"):
        read(root, "trades", start="2026-11-27", end="2026-11-29", holes="raise")
    seen = overview.overview(root)
    assert (seen.pruned, seen.holes, seen.first) == ([(100, 119)], {}, 120)
    assert "pruned: heights 100-119, removed to make room" in overview.picture(seen)
    assert book_at(root, SYMBOL, 125).sequence == 125
    assert not list(root.glob("*/date=2026-11-27"))
    check(root)


def test_age_counts_from_the_end_of_a_parts_last_day(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    sealed(root, _FIRST, _LAST)
    day = pruning.DAY_NS
    for now, expected in ((DAY + day - 1, []), (DAY + day, [100, 110]), (DAY + 2 * day, [100, 110, 120, 130])):  # fmt: skip
        plan = pruning.plan(root, now_ns=now, keep_days=1)
        assert [part.first for part in plan.parts] == expected


def test_what_comes_late_for_a_pruned_part_does_not_begin_it_again(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    sealed(root, _FIRST, _LAST)
    pruning.prune(root, [Part(100, 109)], ts=DAY)
    assert add(root, Part(100, 109), ts=DAY) is None
    assert not any(f.first == 100 for f in manifest.current(manifest.read(root)).values())


@pytest.mark.parametrize("point", _PRUNE)
@pytest.mark.parametrize("nth", [2, *(pytest.param(n, marks=pytest.mark.nightly) for n in (1, 5))])
def test_a_killed_prune_is_finished_by_the_next_one(tmp_path: Path, point: str, nth: int) -> None:
    root = tmp_path / "archive"
    sealed(root, _FIRST, _LAST)
    asked = ("prune", "--max-size", "0.001MB", "--yes")
    killed = tidy(root, *asked, crash_at=f"{point}:{nth}")
    assert killed.returncode == (-9 if nth <= 4 or point == "prune.removed" else 0)
    read(root, "book", holes="raise")
    assert tidy(root, *asked).returncode == 0
    with sealing(root):
        from collector.archive.storage.recovery import recover

        recover(root)
    assert set(manifest.current(manifest.read(root))) == names(root) == set()
    assert not (root / layout.QUARANTINE).exists()
    # What is not sealed yet stays.
    assert segment_file.segments(root)


def test_the_command_says_what_would_go_and_asks(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    sealed(root, _FIRST, _LAST)
    files = names(root)
    said = tidy(root, "prune", "--max-size", "0.001MB", "--dry-run")
    assert said.returncode == 0
    assert said.stdout.startswith(
        "to be removed: 4 parts, heights 100 to 139 (2026-11-27 to 2026-11-28), "
    )
    refused = tidy(root, "prune", "--max-size", "0.001MB")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert names(root) == files
    assert tidy(root, "prune").returncode == 2
    for option, value in (("--keep", "30"), ("--keep", "0d"), ("--keep", "99999d"), ("--max-size", "12"), ("--max-size", "nanGB")):  # fmt: skip
        refused = tidy(root, "prune", option, value)
        assert refused.returncode == 2
        assert value in refused.stderr
    assert json.loads(tidy(root, "prune", "--keep", "36500d", "--json").stdout)["parts"] == []
    done = json.loads(tidy(root, "prune", "--max-size", "0.001MB", "--yes", "--json").stdout)
    assert (done["removed"], len(done["parts"])) == (True, 4)
    assert names(root) == set()


# -- both, beside each other -----------------------------------------------------------


@pytest.mark.nightly
def test_any_order_of_kills_leaves_the_same_facts(tmp_path: Path) -> None:
    rng, root = random.Random(7), tmp_path / "archive"
    added_to(root)
    before = facts(root)
    for _ in range(6):
        tidy(root, "compact", crash_at=f"{rng.choice(_COMPACT)}:{rng.randint(1, 4)}")
        assert facts(root) == before
        assert rows_of_glob(root) == _LAST - _FIRST + 1
    assert tidy(root, "compact").returncode == 0
    check(root)
