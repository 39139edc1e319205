"""
Turn received events into journal entries and notes, and find the parts that are complete. Pure.

A topic is *complete* through a height once everything published through it has been
delivered (`Position.complete`). A part is sealed when every market is complete through its
end. A market that lags by a whole part is not waited for: what it lacks counts as missing until it
has caught up, and its late facts are added.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from collector.archive.journal.ledger import LEFT, Ledger
from collector.archive.journal.segment_file import Chunk, Entry, Note
from collector.archive.recording.cursors import position_of
from collector.archive.recording.fetched import entries_of
from collector.archive.recording.selection import (
    channels_before,
    channels_change,
    selected,
)
from collector.archive.storage.layout import Part, part_of
from collector.client.received import (
    ChainReplaced,
    Joined,
    Lost,
    Received,
    Unanswered,
    notice,
)
from collector.client.topic_cursor import Position
from shards.adapters import registry
from shards.protocol.errors import ConfigError
from shards.protocol.events import Block, Book, Gap
from shards.protocol.frames import EVENTS, KIND_BY_CHANNEL, PREFIX_SIZE, topic as topic_name

_encode: Final = msgspec.msgpack.Encoder().encode
_CHAIN: Final = "chain"
_QUERIED: Final = frozenset({"", "query"})
"""The ``source`` of states, which are queried whatever the collector's source."""


class Intake:
    """Turns what one subscriber receives into what the journal keeps."""

    def __init__(self, span: int) -> None:
        self.ledger = Ledger()
        self.span = span
        self.head = 0
        """The newest height seen."""
        self.channels: set[str] = set()
        """Channels that are recorded; fetched blocks are recorded in these only."""
        self.facts = 0
        self.notices: list[str] = []
        """Sentences for the log: that the collector answers, or does not."""
        self._entries: list[Entry] = []
        self._notes: list[Note] = []
        self._lost: dict[str, Lost] = {}
        """Book topics whose next event says through which height changes are lost."""
        self._heights: dict[str, int] = {}
        """Height of the last event of each book topic."""
        self._ended: set[str] = set()
        """Topics whose channel the collector does not collect: they are not waited for."""
        self._steady: set[str] = set()
        """Book topics whose next change needs no note: nearly all."""
        self._started = False
        self._removed: set[str] = set()
        self._complete = 0
        """Height through which everything published was received; too high where a market is behind."""
        self._caught: set[Part] = set()

    # -- received events ---------------------------------------------------------------

    def take(self, received: Received) -> None:
        """Take one event, in the order in which the subscriber hands them out."""
        event, topic = received.event, received.topic
        if type(event) is Book and topic in self._steady and not event.is_snapshot:
            height = event.height
            if height:
                self._heights[topic] = height
                if height > self.head:
                    self.head = height
                self._entries.append(_entry(received, height))
                self.facts += 1
                return
        self._take_any(received)

    def _take_any(self, received: Received) -> None:
        event = received.event
        if isinstance(event, Joined | Unanswered):
            self.notices.append(notice(event))
            return
        if isinstance(event, ChainReplaced):
            raise ConfigError(
                "another chain took the place of the one that this archive holds: "
                "record it into a folder of its own"
            )
        if isinstance(event, Lost):
            self._lose(received, event)
            return
        height = self._height_of(event)
        if (lost := self._lost.pop(received.topic, None)) is not None:
            last = height if isinstance(event, Book) and event.is_snapshot else height - 1
            first = max(self._complete, self._heights.get(received.topic, 0)) + 1
            self._note(Note("lost", received.symbol, first, last, lost.reason))
        if received.channel == "book":
            self._heights[received.topic] = height
        if isinstance(event, Gap):
            self._gap(received.symbol, event)
        elif not self.ledger.source:
            self._reads(str(getattr(event, "source", "")))
        self._begin(received, height)
        if isinstance(event, Book) and event.is_snapshot:
            # The first part begins with a book that was fetched as of an earlier height.
            height = max(height, self.ledger.of(received.symbol).first)
        elif isinstance(event, Book) and event.height and self._is_steady(received.symbol):
            self._steady.add(received.topic)
        self._entries.append(_entry(received, height))
        self.facts += 1

    def _is_steady(self, symbol: str) -> bool:
        """Say whether the start and the id of a market and the collector's source are noted."""
        market = self.ledger.of(symbol)
        return market.first >= 0 and bool(market.market_id and self.ledger.source)

    def _height_of(self, event: Any) -> int:
        """Return the height that decides an event's part."""
        height = 0 if isinstance(event, Gap) else getattr(event, "height", 0)
        self.head = max(self.head, height)
        return height or self.head

    def _begin(self, received: Received, height: int) -> None:
        if received.channel not in self.channels:
            self.channels.add(received.channel)
        symbol = received.symbol
        if received.channel == "oracle":
            return
        market_id = getattr(received.event, "market_id", "")
        if market_id and not self.ledger.of(symbol).market_id:
            # Listed later, or by another cell: fetched blocks name markets by their ids alone.
            self._note(Note("market", symbol, 0, 0, f"{market_id} "))
        if height <= 0:
            return
        if self._started and self.ledger.of(symbol).first < 0:
            # A market that was listed later: it is complete after its first event.
            self._note(Note("start", symbol, height + 1, height + 1))
        is_back = received.channel != "gap" and symbol in self._removed
        if is_back and not self.ledger.of(symbol).is_left:
            self._return(symbol, height)

    def _lose(self, received: Received, lost: Lost) -> None:
        self._steady.discard(received.topic)
        if lost.unit == "sequence":
            self._lost[received.topic] = lost
            return
        if received.topic in self._ended:
            # It is collected again. What lies between was never published.
            self._ended.discard(received.topic)
            return
        # Oracle prices are in the chain's own blocks.
        symbol = _CHAIN if received.channel == "oracle" else received.symbol
        self._note(Note("lost", symbol, lost.first, lost.last, lost.reason))

    def _gap(self, symbol: str, gap: Gap) -> None:
        if gap.cause == "removed" and gap.state == "open":
            if gap.last:
                self._returned(symbol, gap)
                return
            self._removed.add(symbol)
            self._steady.discard(topic_name("book", symbol))
            self._note(Note("removed", symbol, gap.first, gap.last))
            return
        kind = "gap-closed" if gap.state == "closed" else "gap-open"
        self._note(Note(kind, symbol, gap.first, gap.last, str(gap.gap_id)))
        if gap.cause == "removed":
            self._note(Note("replayed", symbol, gap.first, gap.last))

    def _returned(self, symbol: str, gap: Gap) -> None:
        """A removed market is back; nothing between is replayed, everything after is collected."""
        since = gap.last + 1
        self._return(symbol, since)
        self._note(Note("replayed", symbol, since, max(since, self.head)))

    def _note(self, note: Note) -> None:
        self._notes.append(note)
        self.ledger.fold((note,))

    def start(self, positions: Iterable[Position], head: int) -> None:
        """
        Begin after the newest height that was published before we joined.

        Some of that height's frames may have been published before; only later heights are complete.
        """
        self._started = True
        first = max(head, self.head) + 1
        for symbol in {p.symbol for p in positions if p.channel != "oracle"}:
            if self.ledger.of(symbol).first < 0:
                self._note(Note("start", symbol, first, first))
            elif self.ledger.of(symbol).is_left:
                self._return(symbol, first)

    def choose(
        self, positions: Iterable[Position], is_wanted: Callable[[str], bool]
    ) -> list[Position]:
        """Return the positions of a former recorder that this one goes on with."""
        wanted, notes = selected(self.ledger, positions, is_wanted)
        for note in notes:
            self._note(note)
            (self._removed.add if note.text == LEFT else self._removed.discard)(note.symbol)
        return wanted

    def _return(self, symbol: str, height: int) -> None:
        """Record a market again from a height on."""
        self._removed.discard(symbol)
        self._note(Note("again", symbol, height, height))

    def collects(self, channels: Iterable[str], head: int, ends: Mapping[str, int] = {}) -> None:
        """Take which channels are recorded from now on: some may have had no event yet."""
        self.channels.update(channels)
        first = max(head, self.head) + 1
        for note in channels_change(self.ledger, channels, first, self._complete, ends):
            self._note(note)

    def listed(self, markets: Iterable[Mapping[str, Any]]) -> None:
        """Take how the collector lists its markets: ``symbol``, ``market_id`` and ``type``."""
        for market in markets:
            symbol, text = str(market["symbol"]), f"{market['market_id']} {market.get('type', '')}"
            known = self.ledger.of(symbol)
            if f"{known.market_id} {known.type}" != text:
                self._note(Note("market", symbol, 0, 0, text))

    def _reads(self, source: str) -> None:
        """Note the collector's source, which decides whether completeness can be proved."""
        if source not in _QUERIED | registry.replays():
            self._note(Note("source", "", 0, 0, source))

    # -- lost and fetched blocks -------------------------------------------------------

    def fetched(self, height: int, block: Block | None, ts: int) -> None:
        """Take a lost block, or None if no source has it any more."""
        if block is None:
            self._note(Note("gone", "", height, height))
            return
        entries = list(entries_of(block, self.ledger.lacking(height), self.channels, ts))
        self.facts += len(entries)
        self._entries += entries
        self._note(Note("filled", "", height, height))

    # -- output ------------------------------------------------------------------------

    def take_chunk(self) -> Chunk | None:
        """Return the new entries and notes for the journal; None if there are none."""
        if not self._entries and not self._notes:
            return None
        chunk = Chunk(self._entries, self._notes)
        self._entries, self._notes = [], []
        return chunk

    @property
    def complete(self) -> int:
        """Height through which every market is complete, or was given up."""
        return self._complete

    def look(self, positions: Iterable[Position]) -> None:
        """Update `complete` from the positions; call it when every delivered event was taken."""
        through: dict[str, int] = {}
        for position in positions:
            symbol = position.symbol
            if position.channel == "oracle" or symbol in self._removed:
                continue
            if position.is_ended:
                self._ended.add(position.topic)
                continue
            if self.ledger.of(symbol).first >= 0:
                through[symbol] = min(through.get(symbol, position.complete), position.complete)
        if not through:
            return
        # Markets that lag by a part are not waited for.
        newest = max(through.values())
        complete = max(min(through.values()), part_of(newest, self.span).first - self.span - 1)
        if complete > self._complete:
            self._complete = complete
            self._note(Note("complete", "", complete, complete))
        for symbol, reached in through.items():
            self._lags(symbol, reached)

    def _lags(self, symbol: str, reached: int) -> None:
        """Note that a market is behind in whole parts, or is so no more; then all since counts."""
        market, through = self.ledger.of(symbol), part_of(self._complete + 1, self.span).first - 1
        behind = market.behind
        if reached < through:
            first = behind[0][0] if behind else max(reached + 1, market.first)
            if first <= through and [(first, through)] != behind:
                self._note(Note("behind", symbol, first, through))
        elif behind:
            self._note(caught := Note("caught", symbol, behind[0][0], behind[-1][1]))
            self._catch_up(caught)

    def _catch_up(self, caught: Note) -> None:
        part = part_of(caught.first, self.span)
        while part.first <= caught.last:
            self._caught.add(part)
            part = part_of(part.last + 1, self.span)

    def take_caught(self) -> set[Part]:
        """Return the parts in which a lagging market has caught up since the last call."""
        caught, self._caught = self._caught, set()
        return caught

    def sealed(self, part: Part) -> None:
        """Forget a part that is now sealed, and those before it, unless a market is behind there."""
        behind = self.ledger.behind_from
        # What is missing of the others is needed again, when the part's coverage is written again.
        self.ledger.forget(
            part.last if behind < 0 else min(part.last, part_of(behind, self.span).first - 1)
        )

    def due_parts(self, sealed: set[Part]) -> list[Part]:
        """Return the parts that are whole and not sealed, oldest first."""
        first = min((m.first for m in self.ledger.markets.values() if m.first >= 0), default=-1)
        if first < 0:
            return []
        found, part = [], part_of(first, self.span)
        fetching = self.ledger.to_fetch()
        while part.last <= self._complete and not any(
            low <= part.last and high >= part.first for low, high in fetching
        ):
            if part not in sealed:
                found.append(part)
            part = part_of(part.last + 1, self.span)
        return found

    # -- resuming ----------------------------------------------------------------------

    def replay(self, chunks: Iterable[Chunk]) -> list[Position]:
        """Resume from a journal; return the position of each of its topics."""
        positions: dict[str, Position] = {}
        for chunk in chunks:
            for cursor in chunk.cursors:
                positions[cursor.topic] = position_of(cursor)
                self.channels.add(cursor.topic.partition(".")[0])
            for entry in chunk.entries:
                self._resume(positions, entry)
            for note in chunk.notes:
                self.ledger.fold((note,))
                if note.kind == "complete":
                    self._complete = max(self._complete, note.first)
                elif note.kind == "removed":
                    self._removed.add(note.symbol)
                elif note.kind == "again":
                    self._removed.discard(note.symbol)
                elif note.kind == "caught":
                    self._catch_up(note)
        for position in positions.values():
            behind = self.ledger.of(position.symbol).behind
            complete = behind[0][0] - 1 if behind else self._complete
            if not position.is_ended:
                position.complete = max(position.complete, complete)
        self.head = max(self.head, self._complete)
        return list(positions.values())

    def recorded(self, positions: Iterable[Position]) -> None:
        """Note which channels were recorded, if an older recorder has not."""
        for note in channels_before(self.ledger, positions):
            self._note(note)

    def _resume(self, positions: dict[str, Position], entry: Entry) -> None:
        self.head = max(self.head, entry.height)
        channel = entry.topic.partition(".")[0]
        self.channels.add(channel)
        if not entry.publisher_epoch:
            # It was fetched, so it does not change a topic's position.
            return
        if channel == "book":
            self._heights[entry.topic] = entry.height
        position = positions.get(entry.topic)
        if position is None:
            position = Position(entry.topic, entry.publisher_epoch, 0, 0)
            positions[entry.topic] = position
        position.admit(EVENTS[entry.kind].decode(entry.event))
        position.in_sync = position.linked = True
        position.publisher_epoch = entry.publisher_epoch
        position.sequence = entry.topic_sequence


def _entry(received: Received, height: int) -> Entry:
    return Entry(
        received.topic,
        KIND_BY_CHANNEL[received.channel],
        height,
        # As it came: encoding it again would take as long as all the rest.
        received.body[PREFIX_SIZE:] or _encode(received.event),
        received.publisher_epoch,
        received.topic_sequence,
        received.ts_pub,
        received.ts_push,
        received.shard,
    )
