"""The common part of all merges of one topic: a queue for each cell, and what was delivered. Pure."""

from collections import deque
from typing import Any, Final

from collector.client.cells.cell import Cell, Cells
from collector.client.received import Lost, Received
from collector.client.topic_cursor import Position
from collector.client.topic_filter import split
from shards.protocol.ranges import Ranges

PATIENCE_S: Final = 10.0
"""The longest wait for a cell that answers, but stays behind on a topic."""
_QUEUED: Final = 4_096
"""Limit of one cell's waiting events on one topic; beyond it the topic stops waiting."""
LOST_BY_ALL: Final = "no cell has it any more"


class Side:
    """One cell's events on one topic."""

    __slots__ = ("cell", "is_met", "lost", "queue", "reach")

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.queue: deque[Received] = deque()
        """Events that wait, and those behind them."""
        self.reach = -1
        """Sequence, or height, through which the cell has sent everything that it has."""
        self.lost = Ranges()
        """What the cell has reported as lost."""
        self.is_met = False


class Merge:
    """The common part of all merges: one side for each cell, and the position of the delivery."""

    def __init__(self, topic: str, cells: Cells) -> None:
        self.topic = topic
        self.channel, self.symbol = split(topic)
        self.cells = cells
        self.sides = [Side(cell) for cell in cells.cells]
        self.fact = -1
        """The sequence, or the height, delivered last."""
        self._was_complete = 0
        """Height through which nothing was missing when a cell last had this topic."""
        self.waits_since = -1.0
        """The time since which an event waits, monotonic; below 0 if none does."""

    def take(self, side: Side, received: Received) -> None:
        """Take a cell's next event."""
        raise NotImplementedError

    def settle(self, now: float) -> None:
        """Check the waiting events again; called after each turn, while there are any."""

    def resume(self, position: Position) -> None:
        """Go on behind what was delivered before, as the inboxes do."""
        self.fact = position.fact

    def position(self) -> Position:
        """Return the reader's position: what was delivered, and how far nothing is missing."""
        cells = [side.cell for side in self.sides if side.cell.offers(self.topic)]
        found = [
            one
            for cell in cells
            if (one := cell.inbox.position(self.topic)) and cell.inbox.is_current(one)
        ]
        position = found[0].copy() if found else self._not_offered()
        position.fact = self.fact
        if found:
            self._was_complete = position.complete = self._complete_to(found)
        return position

    def _not_offered(self) -> Position:
        """Return the position while no cell has the topic: their channel may have ended."""
        cells = [side.cell for side in self.sides if side.cell.is_ours and side.cell.joined]
        known = [one for cell in cells if (one := cell.inbox.position(self.topic)) is not None]
        position = known[0].copy() if known else Position(self.topic, 0, 0, 0)
        # A silent cell may still have it when it answers again.
        position.is_ended = bool(known) and all(one.is_ended for one in known)
        heights = [one.complete for one in known]
        if position.is_ended:
            position.complete = max(self._was_complete, *heights)
        else:
            position.complete = self._was_complete or min(heights, default=0)
        return position

    def _complete_to(self, found: list[Position]) -> int:
        return max(one.complete for one in found)

    @property
    def is_waiting(self) -> bool:
        """Whether something waits."""
        return any(side.queue for side in self.sides)

    def _advance(self) -> None:
        """Deliver events that follow, and drop known ones, until none is left that can move."""
        moved = True
        while moved:
            moved = False
            for side in self.sides:
                while side.queue and self._passes(side, side.queue[0]):
                    side.queue.popleft()
                    moved = True
                    self.waits_since = -1.0
        if self.is_waiting:
            self.cells.await_more(self.topic)

    def _passes(self, side: Side, received: Received) -> bool:
        """Whether a cell's first waiting event leaves the queue: delivered, or known already."""
        raise NotImplementedError

    def others(self, side: Side) -> list[Side]:
        """Return the other cells' sides."""
        return [other for other in self.sides if other is not side]

    def deliver(self, side: Side, received: Received) -> None:
        """Deliver an event."""
        self.cells.deliver(side.cell, received)

    def lose(self, side: Side, unit: Any, first: int, last: int, reason: str) -> None:
        """Deliver a `Lost`."""
        lost = Lost(unit, first, last, reason)
        self.deliver(side, Received(self.topic, self.channel, self.symbol, lost))

    def patience_is_over(self, now: float) -> bool:
        """Whether an event has waited for too long, or too many events wait."""
        if self.waits_since < 0:
            self.waits_since = now
        return now - self.waits_since >= PATIENCE_S or any(
            len(side.queue) > _QUEUED for side in self.sides
        )
