"""
The gaps of one market in several cells: a gap is open while it is open in every cell that answers.

A cell that is silent lacks everything, so it does not count. A cell that joined later than the reader
lacks the heights in between: the reader gets none of them from it. Pure.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from collector.client.received import Received
from shards.protocol.events import Gap
from shards.protocol.ranges import Ranges, union

_FOREVER: Final = 1 << 62
_STALE: Final = 20_000
"""A gap whose end was never announced covers at most this many blocks."""
_RANGES: Final = 64


class _CellGaps:
    """The gaps that one cell has announced for the market."""

    __slots__ = ("missing", "opened")

    def __init__(self) -> None:
        self.opened: Gap | None = None
        """The gap whose end is still unknown."""
        self.missing = Ranges()
        """Heights that the cell could not recover."""

    def take(self, gap: Gap) -> None:
        opened = self.opened
        if gap.state == "open" and not gap.last:
            self.opened = gap
            return
        if opened is not None and opened.gap_id == gap.gap_id:
            self.opened = None
        if gap.state == "open":
            self.missing.add(gap.first, gap.last)
            newest = list(self.missing)[-_RANGES:]
            self.missing.discard(0, newest[0][0] - 1)

    def within(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return the heights in a range that are missing, or may be."""
        missing = self.missing
        if self.opened is not None:
            missing = Ranges(missing)
            missing.add(self.opened.first, self.opened.first + _STALE)
        return missing.within(first, last)


class View(NamedTuple):
    """How far one cell is with the market."""

    answers: bool
    """Whether it answers, and has the market."""
    floor: int
    """Height at which it was joined."""
    complete: int
    """Height through which it has sent everything that it has."""


class MarketGaps:
    """One market's gaps: those of each cell, and the one delivered to the reader."""

    def __init__(self, cells: int) -> None:
        self._cells = [_CellGaps() for _ in range(cells)]
        self._newest: Received | None = None
        self._told: Gap | None = None
        """The open gap that was delivered and has no end yet."""
        self._named = Ranges()
        """Heights that were delivered as missing in every cell."""

    def add_cell(self) -> None:
        """Count one more cell."""
        self._cells.append(_CellGaps())

    def missing(self, cell: int, first: int, last: int) -> list[tuple[int, int]]:
        """Return the heights in a range that a cell lacks, or may lack."""
        return self._cells[cell].within(first, last)

    def take(
        self, cell: int, received: Received, views: Sequence[View], floor: int
    ) -> Received | None:
        """Take a cell's gap event; return the event to deliver, if any."""
        assert isinstance(received.event, Gap)
        self._newest = received
        self._cells[cell].take(received.event)
        return self.judge(views, floor)

    def judge(self, views: Sequence[View], floor: int) -> Received | None:
        """
        Evaluate again with the cells that answer; return the event to deliver, if any.

        Args:
            views: How far each cell is.
            floor: Height at which the reader joined.

        """
        newest = self._newest
        if newest is None or not any(view.answers for view in views):
            return None
        event = self._judge(newest, views, floor)
        if event is None:
            return None
        return msgspec.structs.replace(newest, event=event, body=b"")

    def _judge(self, newest: Received, views: Sequence[View], floor: int) -> Gap | None:
        assert isinstance(newest.event, Gap)
        answering = [cell for cell, view in zip(self._cells, views, strict=True) if view.answers]
        opened = [cell.opened for cell in answering if cell.opened is not None]
        if len(opened) == len(answering):
            if self._told is not None:
                return None
            # The latest of the gaps: from its start on, the gap is open in all cells.
            gap = max(opened, key=lambda one: one.first)
            self._told = msgspec.structs.replace(gap, state="open", last=0)
            return self._told
        told, self._told = self._told, None
        lost = self._lost(views, floor, told)
        if lost:
            gap = told or newest.event
            return msgspec.structs.replace(gap, state="open", first=lost[0][0], last=lost[-1][1])
        if told is not None:
            last = max(told.first, newest.event.last)
            return msgspec.structs.replace(told, state="closed", last=last)
        return None

    def _lost(self, views: Sequence[View], floor: int, told: Gap | None) -> list[tuple[int, int]]:
        """Return the heights that all cells lack for good, and that were not announced yet."""
        answering = [one for one in zip(self._cells, views, strict=True) if one[1].answers]
        lost = union(part for cell, _ in answering for part in cell.missing)
        if told is not None:
            # Its cell may have fallen silent before it announced the end.
            lost = union([*lost, (told.first, _FOREVER)])
        for cell, view in answering:
            lacks = Ranges(cell.missing)
            lacks.add(floor + 1, view.floor)
            lost = [part for a, b in lost for part in lacks.within(a, b)]
        if not lost:
            return lost
        fresh = Ranges(lost)
        for a, b in self._named:
            fresh.discard(a, b)
        for cell, view in zip(self._cells, views, strict=True):
            # The cell delivered them before it fell silent.
            given = Ranges([(view.floor + 1, view.complete)])
            for a, b in cell.within(0, _FOREVER):
                given.discard(a, b)
            for a, b in given:
                fresh.discard(a, b)
        for a, b in fresh:
            self._named.add(a, b)
        return list(fresh)
