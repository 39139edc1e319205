"""
First copy wins: merge what several cells publish into one stream.

A *cell* is one `collector start`. Each has its own `Inbox`, which follows only that cell: its
holes, its restarts, its clock. The arbiter merges the events of the inboxes. Each fact is delivered
once, in order per topic, from the cell that has it first (`topic_merge.py`), and a gap is open only
while it is open in all cells (`gap_merge.py`). The stream does not show that a cell died, restarted
or lost its network; `Cell` has the state of each.

Pure: no I/O; the time is an argument.
"""

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec.structs import force_setattr

from collector.client.cells.block_merge import gap_symbol
from collector.client.cells.cell import Cell
from collector.client.cells.gap_merge import MarketGaps, View
from collector.client.cells.merge import Merge, Side
from collector.client.cells.topic_merge import merge_of
from collector.client.received import ChainReplaced, Joined, Lost, Received, Unanswered
from collector.client.topic_cursor import Position
from collector.client.topic_sync import Inbox
from shards.protocol.channels import BY_NAME, Identity
from shards.protocol.frames import topic as topic_name

log = logging.getLogger(__name__)

_OWN: Final = (Joined, Unanswered, ChainReplaced)
NEEDS_GAPS: Final = frozenset(
    name
    for name, row in BY_NAME.items()
    if row.identity in (Identity.HEIGHT, Identity.TRADES) and row.is_replayed
)
"""Channels whose events alone do not show that blocks are missing."""


class Arbiter:
    """Merges the events from the inboxes of several cells."""

    def __init__(self, cells: Sequence[tuple[str, Inbox]], channels: Iterable[str]) -> None:
        """
        Args:
            cells: Name and inbox of each.
            channels: The channels to deliver; the inboxes may follow gaps as well.

        """
        self.cells: list[Cell] = []
        self.ready: deque[Received] = deque()
        self._channels = frozenset(channels)
        self._merges: dict[str, Merge] = {}
        self._gaps: dict[str, MarketGaps] = {}
        self._waiting: dict[str, Merge] = {}
        self._chains = 0
        self._is_joined = False
        self._told_unmatched: tuple[str, ...] = ()
        self._resumed: tuple[list[Position], int] = ([], 0)
        self._floors: dict[str, int] = {}
        for name, inbox in cells:
            self.add(name, inbox)

    def add(self, name: str, inbox: Inbox) -> None:
        """Read one more cell from here on; what it lacks is known once it has answered."""
        cell = Cell(len(self.cells), name, inbox)
        self.cells.append(cell)
        for merge in self._merges.values():
            merge.sides.append(Side(cell))
        for gaps in self._gaps.values():
            gaps.add_cell()
        positions, head = self._resumed
        if positions:
            inbox.resume([position.copy() for position in positions], head)

    # -- resuming ----------------------------------------------------------------------

    def resume(self, positions: Iterable[Position], head: int) -> None:
        """Continue from another reader's positions; call it before anything is received."""
        positions = list(positions)
        self._resumed = ([position.copy() for position in positions], head)
        for cell in self.cells:
            cell.inbox.resume([position.copy() for position in positions], head)
        for position in positions:
            if position.channel != "gap":
                merge = self._merges[position.topic] = merge_of(position.topic, self)
                merge.resume(position)

    def positions(self) -> Iterator[Position]:
        """Return the reader's position in every topic."""
        for merge in self._merges.values():
            yield merge.position()
        cells = [cell for cell in self.cells if cell.is_ours]
        for topic in {topic for cell in cells for topic in cell.inbox.offered()}:
            if topic not in self._merges:
                # Nothing of this topic was delivered yet; or its events are gaps, which have no
                # position.
                found = [
                    one
                    for cell in cells
                    if (one := cell.inbox.position(topic)) and cell.inbox.is_current(one)
                ]
                if not found:
                    continue
                # A cell that joined later does not have all that the reader wants.
                floor = self._floors.get(topic, max(one.floor for one in found))
                whole = [one for one in found if one.floor <= floor]
                yield max(whole or found, key=lambda one: one.complete)

    # -- what comes --------------------------------------------------------------------

    def turn(self, now: float) -> None:
        """Merge what the inboxes have received; call it after frames, replies and ticks."""
        for cell in self.cells:
            ready = cell.inbox.ready
            if cell.inbox.publisher.chain_id != cell.chain_id:
                self._meet_chain(cell, cell.inbox.publisher.chain_id)
            while ready:
                self._take(cell, ready.popleft())
        for merge in list(self._waiting.values()):
            merge.settle(now)
            if not merge.is_waiting:
                merge.waits_since = -1.0
                self._waiting.pop(merge.topic, None)

    def refuse(self, cell: Cell, reason: str) -> None:
        """Stop using a cell, for good."""
        log.warning("%s: %s; nothing of it is read any more", cell.name, reason)
        cell.refused = reason
        self._judge_gaps()

    def _meet_chain(self, cell: Cell, chain_id: str) -> None:
        """Refuse a cell that collects another network than the cells before it."""
        before, cell.chain_id = cell.chain_id, chain_id
        known = [other for other in self.cells if other.chain_id and other is not cell]
        first = next((other for other in known if not other.refused), None)
        # If it has read one before, another chain took its place.
        if not before and first is not None and first.chain_id != chain_id:
            self.refuse(cell, f"collects the chain {chain_id}, and {first.name} {first.chain_id}")

    def _take(self, cell: Cell, received: Received) -> None:
        topic = received.topic
        if cell.refused:
            return
        if not topic:
            self._own(cell, received)
            return
        if cell.is_behind:
            return
        merge = self._merges.get(topic)
        if merge is None:
            if received.channel == "gap":
                self._gap(cell, received)
                return
            merge = self._merges[topic] = merge_of(topic, self)
        merge.take(merge.sides[cell.index], received)

    def _gap(self, cell: Cell, received: Received) -> None:
        if isinstance(received.event, Lost):
            return
        gaps = self._gaps.get(received.symbol)
        if gaps is None:
            gaps = self._gaps[received.symbol] = MarketGaps(len(self.cells))
        told = gaps.take(cell.index, received, *self._views(received.symbol))
        self._tell_gap(cell, told)

    def _judge_gaps(self) -> None:
        """A cell fell silent or came back: that may open or end a gap."""
        for symbol, gaps in self._gaps.items():
            self._tell_gap(None, gaps.judge(*self._views(symbol)))

    def _views(self, symbol: str) -> tuple[list[View], int]:
        """Return how far each cell is with a market, and the height at which the reader joined."""
        topic = topic_name("gap", symbol)
        views = []
        for cell in self.cells:
            position = cell.inbox.position(topic) if cell.is_ours else None
            floor, complete = (0, 0) if position is None else (position.floor, position.complete)
            views.append(View(cell.offers(topic), floor, complete))
        return views, self._floors.get(topic, max(view.floor for view in views))

    def _tell_gap(self, cell: Cell | None, told: Received | None) -> None:
        if told is None or "gap" not in self._channels:
            return
        if cell is None:
            self.ready.append(told)
        else:
            self.deliver(cell, told)

    def _own(self, cell: Cell, received: Received) -> None:
        """Handle what an inbox reports about its own cell."""
        event = received.event
        if isinstance(event, Joined):
            self._join(cell, received, event)
        elif isinstance(event, Unanswered):
            cell.is_silent = True
            log.warning("%s has not answered for %.0f s", cell.name, event.silent_s)
            self._judge_gaps()
            if not any(other.answers for other in self.cells):
                self._is_joined = False
                self.ready.append(received)
        elif isinstance(event, ChainReplaced):
            cell.chains += 1
            if cell.chains > self._chains:
                self._chains = cell.chains
                for other in self.cells:
                    other.is_behind = other.chains < self._chains
                self._merges.clear()
                self._gaps.clear()
                self._waiting.clear()
                self._floors.clear()
                self.ready.append(received)
            cell.is_behind = cell.chains < self._chains

    def _join(self, cell: Cell, received: Received, joined: Joined) -> None:
        if cell.joined is None:
            # This cell answers for the first time: its chain is the current one.
            cell.chains, cell.is_behind = self._chains, False
            self._note_floors(cell)
        if cell.is_silent:
            log.info("%s answers again", cell.name)
        cell.joined, cell.is_silent = joined, False
        self._judge_gaps()
        told, self._is_joined = self._is_joined, True
        # A name that one cell does not have may belong to another cell's part.
        unmatched = self._unmatched()
        if not told or unmatched != self._told_unmatched:
            self._told_unmatched = unmatched
            topics = len({t for other in self.cells for t in other.inbox.offered()})
            event = Joined(joined.publisher_epoch, joined.head, topics, unmatched)
            self.ready.append(Received("", "", "", event, *_header_of(received)))

    def _note_floors(self, newest: Cell) -> None:
        """Note where the reader joined each topic: the floor of the first cell that had it."""
        earlier = [cell for cell in self.cells if cell.joined is not None and not cell.is_behind]
        for cell in (*earlier, newest):
            for topic in cell.inbox.offered():
                floor = cell.inbox.floor(topic)
                if floor is not None:
                    self._floors.setdefault(topic, floor)

    def _unmatched(self) -> tuple[str, ...]:
        """Return the names that no cell has; empty until all cells have answered."""
        if not all(cell.joined or cell.is_silent or cell.refused for cell in self.cells):
            return ()
        each = [cell.joined.unmatched for cell in self.cells if cell.joined is not None]
        return tuple(name for name in each[0] if all(name in others for others in each))

    # -- for the merges ----------------------------------------------------------------

    def deliver(self, cell: Cell, received: Received) -> None:
        """Deliver a cell's event."""
        # No other code has this event yet, so it may still be changed.
        force_setattr(received, "publisher", cell.name)
        cell.first_copies += 1
        self.ready.append(received)

    def await_more(self, topic: str) -> None:
        """Check a topic again after each turn, until none of its events waits."""
        self._waiting[topic] = self._merges[topic]

    def floor_of(self, topic: str) -> int | None:
        """Return the height at which the reader joined a topic; None if that is not known."""
        return self._floors.get(topic)

    def gaps_of(self, topic: str) -> MarketGaps | None:
        """Return the gaps that may concern blocks of a topic; None if there never was one."""
        return self._gaps.get(gap_symbol(topic))

    def differ(self, cell: Cell, topic: str, where: str) -> None:
        """Note that a cell's copy differs from the first one."""
        cell.differences += 1
        if cell.differences & (cell.differences - 1) == 0:
            log.warning(
                "%s says something else than another cell: %s at %s (%d times so far)",
                *(cell.name, topic, where, cell.differences),
            )


def _header_of(received: Received) -> tuple[int, int, int, int, int, int, int, int]:
    return (received.publisher_epoch, 0, 0, 0, 0, 0, 0, received.ts_sub)
