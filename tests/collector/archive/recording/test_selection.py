"""A recorder that begins again with other markets than before."""

from collector.archive.journal.segment_file import Chunk, Note
from collector.archive.recording.cursors import cursor_of
from collector.archive.recording.intake import Intake
from collector.client.topic_cursor import Position

SPAN = 10


def _former(*, is_left: bool = False) -> tuple[Intake, list[Position]]:
    """What a recorder of A and B left behind at 125; or one of A, after one of both at 115."""
    notes = [Note("start", symbol, 101, 101) for symbol in "AB"]
    reached = {"A": 125, "B": 115 if is_left else 125}
    if is_left:
        notes.append(Note("removed", "B", 116, 0, "left"))
    cursors = [
        cursor_of(Position(f"{channel}.{symbol}.", 7, 0, height))
        for symbol, height in reached.items()
        for channel in ("book", "trades")
    ]
    intake = Intake(SPAN)
    return intake, intake.replay([Chunk([], notes, cursors)])


def _wants_a(topic: str) -> bool:
    return topic.endswith(".A.")


def test_a_market_that_is_not_wanted_any_more_ends_and_is_not_waited_for() -> None:
    intake, former = _former()
    chosen = intake.choose(former, _wants_a)
    assert {position.symbol for position in chosen} == {"A"}
    assert intake.ledger.due("B", 110, 149) == [(110, 125)]
    intake.look([Position("book.A.", 7, 0, 149)])
    assert intake.complete == 149
    assert not intake.ledger.missing("B", 100, 149)


def test_it_comes_back_where_it_was_if_that_is_known() -> None:
    intake, former = _former(is_left=True)
    assert {position.symbol for position in intake.choose(former, lambda _: True)} == {"A", "B"}
    assert not intake.ledger.missing("B", 100, 149)
    assert intake.ledger.due("B", 110, 149) == [(110, 149)]


def test_it_comes_back_when_the_recorder_has_joined() -> None:
    intake, former = _former(is_left=True)
    kept = Intake(SPAN)
    kept.replay([Chunk([], intake.ledger.notes())])
    kept.choose([position for position in former if position.symbol == "A"], lambda _: True)
    kept.start([Position("book.A.", 7, 0, 130), Position("book.B.", 7, 0, 130)], 130)
    assert kept.ledger.missing("B", 100, 149) == [(116, 130)]
    kept.look([Position("book.A.", 7, 0, 139), Position("book.B.", 7, 0, 139)])
    assert kept.complete == 139
