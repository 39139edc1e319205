"""What a recorder goes on with, if it records other markets than the one before it. Pure."""

from collections.abc import Callable, Iterable

from collector.archive.journal.ledger import LEFT, Ledger
from collector.archive.journal.segment_file import Note
from collector.client.topic_cursor import Position


def selected(
    ledger: Ledger, positions: Iterable[Position], is_wanted: Callable[[str], bool]
) -> tuple[list[Position], list[Note]]:
    """
    Return the positions of the topics that are wanted, and notes of the markets that come and go.

    A market without wanted topics ends at its position; one that is wanted again resumes there.
    """
    former = list(positions)
    wanted = [position for position in former if is_wanted(position.topic)]
    symbols, notes = {position.symbol for position in wanted}, []
    for symbol in sorted({p.symbol for p in former if p.channel != "oracle"}):
        market = ledger.of(symbol)
        if symbol in symbols and market.is_left:
            notes.append(Note("again", symbol, market.absent_from, market.absent_from))
        elif symbol not in symbols and market.first >= 0 and market.absent_from < 0:
            reached = min(p.complete for p in former if p.symbol == symbol)
            notes.append(Note("removed", symbol, reached + 1, 0, LEFT))
    return wanted, notes
