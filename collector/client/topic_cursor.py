"""
The position in one topic: what was delivered, and what may be delivered next.

Within one publisher epoch ``topic_sequence`` orders everything. After a restart of the aggregator
only the facts themselves can be compared, because the new one publishes the last minute again
under new numbers:

=======  ======================================================  ====================
channel  a fact is already known if                              a loss is detected by
=======  ======================================================  ====================
book     its sequence is not above ours (*)                      a jump in sequence
ticker   its sequence is not above ours (*)                      heights out of reach
trades   its height is not above ours; orders alike              heights out of reach
         (where some come late: each trade by its id)
gap      its (gap_id, state, first) was delivered                heights out of reach
markets  it equals the last one except for its instant           heights out of reach
others   its height is not above ours                            heights out of reach
=======  ======================================================  ====================

(*) Within one count: a book's sequence may restart (book_count.py).

For book topics and conflated channels a late joiner receives the newest whole book, or event.
"""

from collections import deque
from typing import Final

import msgspec

from collector.client.book_count import Count
from collector.client.received import Lost, Received
from collector.client.topic_filter import split
from shards.adapters import registry
from shards.protocol.channels import BY_EVENT, BY_NAME
from shards.protocol.events import Book, Event, Gap, Metadata, Ticker, Trades
from shards.protocol.frames import STATES, Header
from shards.protocol.trade_ids import KnownTrades

UNKNOWN: Final = -1
"""Generation of a chain that is not known yet: the next answer names it."""
_GAPS_KNOWN: Final = 256
_BY_HEIGHT: Final = registry.trades_by_height()
"""Sources that send a block's trades in one frame, in order. Others may send trades late."""


class Position(Count):
    """One topic's position; `admit` advances it by one event."""

    __slots__ = (
        "_gaps",
        "_listed",
        "chain",
        "channel",
        "complete",
        "fact",
        "floor",
        "in_sync",
        "is_ended",
        "known",
        "linked",
        "overlaps",
        "publisher_epoch",
        "sequence",
        "starts_whole",
        "symbol",
        "topic",
    )

    def __init__(self, topic: str, publisher_epoch: int, sequence: int, complete: int) -> None:
        super().__init__()
        self.topic = topic
        self.channel, self.symbol = split(topic)
        self.chain = UNKNOWN
        """Generation of the chain whose facts were delivered."""
        self.publisher_epoch = publisher_epoch
        self.sequence = sequence
        """The last topic_sequence processed."""
        self.complete = complete
        """Height through which nothing is missing; not used for book topics."""
        self.floor = complete
        """Height at which the subscriber joined: facts up to it are not wanted."""
        self.fact = -1
        """Book sequence, or height of the trades, delivered last."""
        self.in_sync = False
        """Whether the delivered deltas continue a whole book."""
        self.overlaps = False
        """Whether known facts may arrive again: from a rebase until the first new one."""
        self.linked = True
        """Whether new frames are known to continue what was delivered."""
        self.is_ended = False
        """Whether the publisher does not collect this channel: then `complete` is where it ended."""
        self.starts_whole = self.channel == "book" or self.channel in STATES
        """Whether a late joiner receives the newest whole book, or event."""
        self.known: KnownTrades | None = None
        """Used only if trades are identified by id."""
        self._listed: Metadata | None = None
        self._gaps: deque[tuple[int, str, int, int]] = deque(maxlen=_GAPS_KNOWN)

    def copy(self) -> "Position":
        """Return another position at the same place; its chain is not known yet."""
        other = Position(self.topic, self.publisher_epoch, self.sequence, self.complete)
        other.floor, other.fact, other.in_sync = self.floor, self.fact, self.in_sync
        other.place = self.place
        other.is_ended = self.is_ended
        return other

    def rebase(self, publisher_epoch: int, from_height: int) -> Lost | None:
        """
        Continue in another publisher's numbering; its frames are admitted next.

        Returns:
            What that publisher can no longer resend, if this is already known.

        """
        restarted = publisher_epoch != self.publisher_epoch
        self.publisher_epoch = publisher_epoch
        self.sequence = 0 if restarted else self.sequence
        self.overlaps, self.linked = True, False
        if (
            self.channel == "book"
            or (self.starts_whole and self.fact < 0)
            or (restarted and from_height <= self.complete + 1)
        ):
            return None
        first = self.complete + 1
        self.complete = max(first, from_height - 1)
        return Lost("height", first, self.complete, _reason(restarted))

    def end(self, publisher_epoch: int, through: int) -> Lost | None:
        """
        Continue with a publisher that does not collect this channel; the former one did.

        Returns:
            What that one may have published after the last fact, through a height at most.

        """
        is_begun = self.publisher_epoch > 0
        first = max(self.complete, self.height) + 1
        self.publisher_epoch, self.sequence = publisher_epoch, 0
        self.overlaps, self.linked, self.is_ended = True, False, True
        self.complete = max(first - 1, through)
        if first > through or not is_begun or not BY_NAME[self.channel].is_replayed:
            return None
        return Lost("height", first, through, "the collector no longer collects this channel")

    def admit(self, event: Event) -> bool | Lost | Trades:
        """Return whether to deliver: no, yes, yes after a loss, or only these trades."""
        if type(event) is Book:
            return self._admit_book(event)
        return self._admit_other(event)

    def _admit_other(self, event: Event) -> bool | Lost | Trades:
        """Take an event that is not a book's; its channel determines which facts are known."""
        row = BY_EVENT[type(event)]
        match event:
            case Trades() if event.source not in _BY_HEIGHT:
                return self._admit_by_id(event)
            case Gap():
                return self._admit_gap(event)
            case Metadata():
                return self._admit_metadata(event)
        if not row.is_state:
            # Each block's event is wanted, not only the newest.
            return self._admit_block(event.height)
        # Its topic is in order: nothing is missing before it.
        self.complete = max(self.complete, event.height)
        if type(event) is Ticker:
            return self._admit_ticker(event)
        return self._admit_state(event.height)

    def _admit_book(self, event: Book) -> bool | Lost:
        if self.is_past(event):
            self.linked = True
            return False
        was_linked = self.linked
        if self.begins_again(event, self.fact):
            verdict: bool | Lost = True
            if not event.is_snapshot:
                verdict = Lost("sequence", 0, event.sequence - 1, "the book's sequence restarted")
            self.fact, self.in_sync = event.sequence, event.is_snapshot
            self.overlaps, self.linked = False, True
        elif event.is_snapshot:
            verdict = self._admit_snapshot(event.sequence)
        else:
            verdict = self._admit_delta(event.sequence)
        if verdict is not False:
            self.follow(event)
        elif not event.height and not self.has_time:
            # Before or after ours? It names no height, ours no time: the whole book will tell.
            self.linked = was_linked or event.sequence == self.fact
        return verdict

    def _admit_ticker(self, event: Ticker) -> bool:
        if self.is_past(event):
            return False
        if self.begins_again(event, self.fact):
            self.fact = -1
        if not self._admit_state(event.sequence):
            return False
        self.follow(event)
        return True

    def _admit_by_id(self, event: Trades) -> bool | Trades:
        if self.overlaps and event.height <= self.floor:
            return False
        self.known = self.known or KnownTrades()
        fresh = self.known.take(event.trades)
        if not fresh:
            return False
        self.fact = max(self.fact, event.height)
        self.complete = max(self.complete, event.height)
        self.overlaps = False
        if len(fresh) == len(event.trades):
            return True
        return msgspec.structs.replace(event, trades=fresh)

    def _admit_gap(self, event: Gap) -> bool:
        # An open gap is announced again once the missing heights are known.
        key = (event.gap_id, event.state, event.first, event.last)
        if key in self._gaps:
            return False
        self._gaps.append(key)
        return True

    def mark(self) -> tuple[int, int, int, bool]:
        """A value that changes whenever this topic makes progress."""
        return self.publisher_epoch, self.sequence, self.fact, self.in_sync and self.linked

    def hand_out(self, event: Event | Lost, header: Header, ts_sub: int, healed: bool) -> Received:
        """Wrap an event of this topic for delivery."""
        return Received(self.topic, self.channel, self.symbol, event, *header, ts_sub, healed)

    @property
    def lacks_book(self) -> bool:
        """Whether this is a book topic that needs a whole book to be in sync."""
        return self.channel == "book" and not (self.in_sync and self.linked)

    def _admit_delta(self, found: int) -> bool | Lost:
        due = self.fact + 1
        if found == due and self.fact >= 0:
            self.fact = found
            self.overlaps, self.linked = False, True
            return True
        if self.fact < 0:
            return False
        if found < due:
            self.linked = True
            return False
        self.fact = found
        self.in_sync, self.overlaps, self.linked = False, False, True
        return Lost("sequence", due, found - 1, "book updates missing from the history")

    def _admit_snapshot(self, found: int) -> bool | Lost:
        known = found == self.fact and self.in_sync and self.overlaps
        if found < self.fact or known:
            self.linked = True
            return False
        # A jump between linked frames comes from the source and was announced as a gap.
        jumped = not self.linked and 0 <= self.fact < found
        first, self.fact = self.fact + 1, found
        self.in_sync = True
        self.overlaps, self.linked = False, True
        if jumped:
            return Lost("sequence", first, found, "book updates missing from the history")
        return True

    def _admit_block(self, height: int) -> bool:
        if height <= self.fact or (self.overlaps and height <= self.floor):
            return False
        self.fact = height
        self.overlaps = False
        self.complete = max(self.complete, height)
        return True

    def _admit_state(self, fact: int) -> bool:
        """Take an event identified by one number, even if it precedes our join."""
        if fact <= self.fact:
            return False
        self.fact = fact
        self.overlaps = False
        return True

    def _admit_metadata(self, event: Metadata) -> bool:
        known, self._listed = self._listed, msgspec.structs.replace(event, ts=0)
        self.fact = event.ts
        return known != self._listed

    def __repr__(self) -> str:
        sync = "" if self.channel != "book" or self.in_sync else ", out of sync"
        return f"<Position {self.topic} {self.sequence} of {self.publisher_epoch}{sync}>"


def _reason(restarted: bool) -> str:
    if restarted:
        return "the aggregator restarted and knows only later heights"
    return "the aggregator's history no longer reaches back this far"
