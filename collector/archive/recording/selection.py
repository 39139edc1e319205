"""What a recorder goes on with, if it records other markets or channels than before. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from collector.archive.journal.ledger import LEFT, Ledger
from collector.archive.journal.segment_file import Note
from collector.archive.storage.by_channel import BY_HEIGHT, EVER
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
            of_market = [p for p in former if p.symbol == symbol]
            going_on = [p for p in of_market if not p.is_ended]
            reached = min(p.complete for p in going_on or of_market)
            notes.append(Note("removed", symbol, reached + 1, 0, LEFT))
    return wanted, notes


def ends_of(positions: Iterable[Position]) -> dict[str, int]:
    """Return where the channels that the collector does not collect any more have ended."""
    found: dict[str, int] = {}
    for position in positions:
        if position.is_ended:
            found[position.channel] = max(found.get(position.channel, 0), position.complete)
    return found


def channels_change(
    ledger: Ledger, channels: Iterable[str], first: int, complete: int, ends: Mapping[str, int]
) -> Iterator[Note]:
    """
    Yield notes of the channels that come and go.

    Args:
        ledger: What was noted so far.
        channels: What is recorded now.
        first: The first height that a new channel has whole.
        complete: The last height that the channels no longer recorded have in full.
        ends: The same, of channels that the collector ended: what may have come before is fetched.

    """
    now, known = BY_HEIGHT.intersection(channels), ledger.channels or {}
    former = {channel for channel, spans in known.items() if spans and spans[-1][1] == EVER}
    if (begun := now - former) or not known:
        yield Note("channels", "", first, 0, " ".join(sorted(begun)))
    for channel in sorted(former - now):
        yield Note("channel-end", "", max(complete, ends.get(channel, 0)) + 1, 0, channel)


def channels_before(ledger: Ledger, positions: Iterable[Position]) -> Iterator[Note]:
    """Yield a note of the channels of an older recorder, which noted none: those that had facts."""
    found = BY_HEIGHT & {position.channel for position in positions if position.fact >= 0}
    if ledger.channels is None and found:
        yield Note("channels", "", 0, 0, " ".join(sorted(found)))
