"""What a read lacks at its ends is named as well: between instants, and before what is not sealed yet."""

import datetime
import shutil
import warnings
from pathlib import Path

import pytest

from collector.archive.journal.segment_file import Note
from collector.archive.reading.book_at import book_at
from collector.archive.reading.tables import HolesError, HolesWarning, read
from collector.archive.sealing import seal
from collector.archive.storage import layout
from tests.collector.archive import written
from tests.collector.archive.written import DAY, SPAN, SYMBOL, change, entry, instant, trades

LOST = (107, 124)
"""From a minute before midnight until after it: the block of midnight is 120."""
Both = tuple[int, int]


def _time(height: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(instant(height) / 1e9, datetime.UTC)


@pytest.fixture(scope="module", params=[(), (100, 110), (100, 110, 120, 130)], ids=len)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive that lacks some heights for good; none, some, and all of its parts are sealed."""
    path = tmp_path_factory.mktemp("lost") / "archive"
    had = [h for h in range(101, 140) if not LOST[0] <= h <= LOST[1]]
    made = [entry("book", written.whole(100))]
    made += [e for h in had for e in (entry("book", change(h)), entry("trades", trades(h)))]
    notes = [Note("lost", SYMBOL, *LOST, "cut"), Note("gone", "", *LOST)]
    written.write(path, made, notes, begin=101)
    for first in request.param:
        seal.seal(path, layout.part_of(first, SPAN), ts=DAY)
    return path


@pytest.mark.parametrize(
    ("start", "end"),
    [(103, 112), (112, 130), (110, 120), (103, 130), (None, 112), (112, None), (None, None)],
)
@pytest.mark.parametrize("channel", ["trades", "book"])
def test_a_hole_at_the_end_of_a_time_is_named(
    root: Path, channel: str, start: int | None, end: int | None
) -> None:
    between = [None if height is None else _time(height) for height in (start, end)]
    with pytest.warns(HolesWarning, match="heights 107-124 of INJ-USDT are missing"):
        found = read(root, channel, start=between[0], end=between[1])
    assert found.holes == {SYMBOL: [LOST]}


def test_the_day_in_which_a_hole_begins_or_ends_is_not_whole(root: Path) -> None:
    for first, last in (("2026-11-27", "2026-11-28"), ("2026-11-28", "2026-11-29")):
        with pytest.raises(HolesError, match="heights 107-124 of INJ-USDT"):
            read(root, "trades", start=first, end=last, holes="raise")


@pytest.mark.parametrize(("start", "end"), [(101, 106), (126, 139), (None, 106), (126, None)])
def test_a_time_without_a_hole_is_whole(root: Path, start: int | None, end: int | None) -> None:
    between = [None if height is None else _time(height) for height in (start, end)]
    assert not read(root, "trades", start=between[0], end=between[1], holes="raise").holes


@pytest.fixture
def restored(tmp_path: Path) -> Path:
    """A copy without the journal, as docs/archive.md says, in which a recorder goes on later."""
    root = tmp_path / "archive"
    written.sealed(root, 101, 119)
    shutil.rmtree(root / layout.JOURNAL)
    made = [entry("book", written.whole(134))]
    made += [
        e for h in range(135, 138) for e in (entry("book", change(h)), entry("trades", trades(h)))
    ]
    written.write(root, made, begin=135)
    return root


@pytest.mark.parametrize(
    ("asked", "lost"),
    [((None, None), (120, 134)), ((101, 130), (120, 130)), ((125, 136), (125, 134))],
)
def test_what_lies_between_sealed_parts_and_the_journal_is_named(
    restored: Path, asked: tuple[int | None, int | None], lost: Both
) -> None:
    with pytest.warns(HolesWarning, match=f"heights {lost[0]}-{lost[1]} of INJ-USDT are missing"):
        assert read(restored, "trades", start=asked[0], end=asked[1]).holes == {SYMBOL: [lost]}
    assert not read(restored, "trades", start=110, end=119, holes="raise").holes
    assert not read(restored, "trades", start=135, end=137, holes="raise").holes


def test_a_book_between_sealed_parts_and_the_journal_is_refused(restored: Path) -> None:
    assert book_at(restored, SYMBOL, 119).height == 119
    with pytest.raises(HolesError, match="heights 120-127 of INJ-USDT are missing"):
        book_at(restored, SYMBOL, 127)
    assert book_at(restored, SYMBOL, 136).height == 136


def test_what_is_in_the_journal_alone_is_not_outside_of_the_archive(restored: Path) -> None:
    """A market that is recorded, and was quiet today: there is no row, and nothing is wrong."""
    quiet = "ATOM-USDT"
    notes = [Note("market", quiet, 0, 0, "0xa7 spot"), Note("start", quiet, 135, 135)]
    shutil.rmtree(restored / layout.JOURNAL)
    written.write(restored, [entry("trades", trades(137))], notes, begin=135)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not len(read(restored, "trades", markets=quiet, start=_time(136)))
        assert not len(read(restored, "trades", markets=quiet, start=135, end=137))
