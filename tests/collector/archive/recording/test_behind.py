"""A market that lags by a part: what it lacks is missing, until it has caught up or is lost for good."""

from pathlib import Path

import pytest

from collector.archive.journal.segment_file import Chunk, Note, Writer
from collector.archive.reading.tables import read
from collector.archive.recording.cursors import cursor_of
from collector.archive.recording.intake import Intake
from collector.archive.sealing import seal
from collector.archive.sealing.additions import add
from collector.archive.storage import layout
from collector.archive.storage.layout import Part
from collector.client.topic_cursor import Position
from shards.protocol.ranges import RangeList
from tests.collector.archive import written
from tests.collector.archive.written import DAY, SPAN, SYMBOL, change, entry, trades

AHEAD = "ATOM-USDT"


def _positions(**complete: int) -> list[Position]:
    return [Position(f"trades.{symbol}.", 7, 0, height) for symbol, height in complete.items()]


def _lagging() -> Intake:
    """Two markets since 101; A is at 135, and B only at 104."""
    intake = Intake(SPAN)
    intake.start(_positions(A=100, B=100), 100)
    intake.look(_positions(A=135, B=104))
    return intake


def test_what_it_lacks_of_parts_that_are_not_waited_for_is_missing() -> None:
    intake = _lagging()
    assert intake.complete == 119
    assert intake.due_parts(set()) == [Part(100, 109), Part(110, 119)]
    assert intake.ledger.missing("B", 100, 119) == [(105, 119)]
    assert not intake.ledger.missing("A", 100, 119)
    intake.look(_positions(A=145, B=112))
    # Parts are wholly there or not: what has come of the first one is added when all has.
    assert intake.ledger.missing("B", 100, 200) == [(105, 129)]
    assert not intake.take_caught()
    intake.look(_positions(A=146, B=140))
    assert not intake.ledger.missing("B", 100, 200)
    assert intake.take_caught() == {Part(100, 109), Part(110, 119), Part(120, 129)}
    assert not intake.take_caught()


def test_it_is_noted_once_a_part() -> None:
    intake = _lagging()
    noted = []
    for height in range(136, 160):
        intake.look(_positions(A=height, B=104))
        chunk = intake.take_chunk()
        noted += [note for note in chunk.notes if note.kind == "behind"] if chunk else []
    assert noted == [Note("behind", "B", 105, last) for last in (119, 129, 139)]


def test_a_market_that_was_listed_later_is_not_behind_before_it_was() -> None:
    intake = Intake(SPAN)
    intake.start(_positions(A=100), 100)
    intake.look(_positions(A=135))
    intake.start(_positions(B=105), 135)
    intake.take_chunk()
    for _ in range(2):
        intake.look(_positions(A=135, B=105))
        assert intake.take_chunk() is None


def test_what_others_lack_is_known_as_long_as_the_part_may_be_covered_again() -> None:
    intake = _lagging()
    intake._note(Note("lost", "A", 102, 103))
    intake._note(Note("gone", "A", 102, 103))
    for part in intake.due_parts(set()):
        intake.sealed(part)
    assert intake.ledger.missing("A", 100, 119) == [(102, 103)]
    intake.look(_positions(A=146, B=140))
    intake.sealed(Part(110, 119))
    assert not intake.ledger.missing("A", 100, 119)


@pytest.mark.parametrize("is_segment", [True, False])
def test_a_recorder_that_begins_again_goes_on_where_the_market_is(is_segment: bool) -> None:
    intake = _lagging()
    chunk = intake.take_chunk()
    assert chunk is not None
    notes = [*intake.ledger.notes(), Note("complete", "", 119, 119)] if is_segment else chunk.notes
    after = Intake(SPAN)
    found = after.replay([Chunk([], notes, [cursor_of(p) for p in _positions(A=135, B=104)])])
    assert {p.symbol: p.complete for p in found} == {"A": 135, "B": 104}
    assert after.ledger.missing("B", 100, 200) == [(105, 119)]
    after.look(found)
    assert after.take_chunk() is None
    after.look(_positions(A=135, B=135))
    assert after.take_caught() == {Part(100, 109), Part(110, 119)}
    done = after.take_chunk()
    assert done is not None
    last = Intake(SPAN)
    last.replay([Chunk([], notes), done])
    assert last.take_caught() == {Part(100, 109), Part(110, 119)}


def _missing(root: Path) -> dict[str, RangeList]:
    return read(root, "coverage", holes="allow").holes


def _behind(root: Path) -> None:
    """Seal two parts: one market is behind since 104, and the other one has lost 102 and 103 for good."""
    made = [entry("book", written.whole(100)), *(entry("book", change(h)) for h in range(101, 104))]
    written.write(root, made, [
        Note("market", AHEAD, 0, 0, "0xa7 spot"), Note("start", AHEAD, 101, 101),
        Note("behind", SYMBOL, 104, 119), Note("gone", AHEAD, 102, 103),
    ], begin=101)  # fmt: skip
    for first in (100, 110):
        seal.seal(root, layout.part_of(first, SPAN), ts=DAY)


def _come(root: Path, *chunks: Chunk) -> None:
    writer = Writer(root)
    for chunk in chunks:
        writer.append(chunk)
    writer.close()
    for first in (100, 110):
        add(root, layout.part_of(first, SPAN), ts=DAY)


def test_its_parts_are_whole_once_all_has_come(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    _behind(root)
    assert _missing(root) == {SYMBOL: [(104, 119)], AHEAD: [(102, 103)]}
    came = [entry("book", change(height)) for height in range(104, 116)]
    _come(root, Chunk([*came, entry("trades", trades(107))]))
    assert _missing(root) == {SYMBOL: [(104, 119)], AHEAD: [(102, 103)]}
    # Nothing happened in its last blocks.
    _come(root, Chunk([], [Note("caught", SYMBOL, 104, 119)]))
    assert _missing(root) == {AHEAD: [(102, 103)]}
    rows = read(root, "coverage", markets=SYMBOL).arrow.to_pylist()
    assert [(row["due"], row["missing"], row["book_updates"]) for row in rows] == [
        (9, 0, 9),
        (10, 0, 6),
    ]


@pytest.mark.parametrize(
    "lost", [Note("gone", SYMBOL, 104, 111), Note("gap-open", SYMBOL, 104, 111, "7")]
)
def test_what_nobody_has_any_more_stays_missing(tmp_path: Path, lost: Note) -> None:
    """As far as the ends of its parts, where it is due all the same."""
    root = tmp_path / "archive"
    _behind(root)
    came = [entry("book", change(height)) for height in range(112, 120)]
    _come(root, Chunk(came, [lost, Note("caught", SYMBOL, 104, 119)]))
    assert _missing(root) == {SYMBOL: [(104, 111)], AHEAD: [(102, 103)]}
    rows = read(root, "coverage", markets=SYMBOL, holes="allow").arrow.to_pylist()
    assert [(row["first_height"], row["last_height"], row["missing"]) for row in rows] == [
        (101, 109, 6),
        (110, 119, 2),
    ]
