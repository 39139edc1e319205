"""Facts by height of several cells, wanted for every block: trades, orders, blocks, oracle prices. Pure."""

from typing import Any, Final

import msgspec

from collector.client.cells.cell import Cells
from collector.client.cells.merge import LOST_BY_ALL, Merge, Side
from collector.client.received import Lost, Received
from collector.client.topic_cursor import Position
from collector.client.topic_filter import split
from shards.adapters import registry
from shards.protocol.channels import CHAIN_WIDE
from shards.protocol.events import Trades
from shards.protocol.frames import topic as topic_name
from shards.protocol.ranges import Ranges
from shards.protocol.settings import CHAIN
from shards.protocol.trade_ids import KnownTrades

_HEIGHTS: Final = 1_024
_FOREVER: Final = 1 << 62
_BY_HEIGHT: Final = registry.trades_by_height()


class BlockMerge(Merge):
    """Facts by height, wanted for every block: trades, orders, blocks, oracle prices."""

    def __init__(self, topic: str, cells: Cells) -> None:
        super().__init__(topic, cells)
        self._gap_topic = topic_name("gap", gap_symbol(topic))
        self._floor = -1
        """Height at which the reader joined: older facts are not wanted."""
        self._known: KnownTrades | None = None
        """Used from the first event whose trades are identified by id."""
        self._whole_to = -1
        self._heights: dict[int, None] = {}
        """The heights delivered or named as lost, the newest of them."""
        self._newest: Any = None

    def take(self, side: Side, received: Received) -> None:
        """Take a cell's next event."""
        if not side.is_met:
            self._meet(side)
        event: Any = received.event
        if isinstance(event, Lost):
            side.lost.add(event.first, event.last)
        elif self._known is not None or (type(event) is Trades and event.source not in _BY_HEIGHT):
            self._take_by_id(side, received, event)
            return
        elif not side.queue:
            if event.height <= self.fact:
                self._drop(side, event)
                return
            if not self._leaves_out(side, received, event.height):
                self._pass(side, received, event)
                if self.waits_since >= 0:
                    self._advance()
                return
        side.queue.append(received)
        self._advance()

    def settle(self, now: float) -> None:
        """Skip facts that no cell has any more."""
        self._advance()
        while heads := [side for side in self.sides if side.queue]:
            side = min(heads, key=lambda one: _due(one.queue[0]))
            due = _due(side.queue[0])
            if not self.patience_is_over(now) and any(
                not other.queue and other.cell.offers(self.topic) and self._watermark(other) < due
                for other in self.others(side)
            ):
                break
            self._skip(side, side.queue.popleft(), due)
            self._advance()

    def resume(self, position: Position) -> None:
        """Go on behind what was delivered before, as the inboxes do."""
        super().resume(position)
        self._floor = position.floor
        for side in self.sides:
            side.is_met = True

    def position(self) -> Position:
        """Return the reader's position."""
        position = super().position()
        position.floor = self._floor
        return position

    def _complete_to(self, found: list[Position]) -> int:
        """Return the height that all cells have reached, or that one has reached without a gap."""
        complete = self._reached(min(one.complete for one in found))
        if self.is_waiting:
            return complete
        gaps = self.cells.gaps_of(self.topic)
        for side in [side for side in self.sides if side.cell.is_ours]:
            first, last = complete + 1, side.cell.inbox.complete(self.topic)
            if last < first or not side.is_met:
                continue
            missing = gaps is not None and gaps.missing(side.cell.index, first, last)
            if not missing and not side.lost.within(first, last):
                complete = last
        return complete

    def _reached(self, complete: int) -> int:
        """Return the height before the first one that no cell which answers can deliver."""
        lost = [(max(self.fact, self._floor) + 1, complete)]
        for side in self.sides:
            if side.cell.offers(self.topic):
                self._meet_quiet(side)
                lost = [part for a, b in lost for part in side.lost.within(a, b)]
        return lost[0][0] - 1 if lost else complete

    def _meet(self, side: Side) -> None:
        """Note that a cell which joined later lacks the facts in between."""
        side.is_met = True
        position = side.cell.inbox.position(self.topic)
        floor = -1 if position is None else position.floor
        if all(not other.is_met for other in self.others(side)):
            # The first event may come from a cell that joined after the reader did.
            joined = self.cells.floor_of(self.topic)
            self._floor = floor if joined is None else min(joined, floor)
        side.lost.add(self._floor + 1, floor)

    def _meet_quiet(self, side: Side) -> None:
        """Meet a cell that has joined, but has sent nothing on this topic."""
        cell = side.cell
        if side.is_met or cell.joined is None or cell.is_behind:
            return
        if cell.inbox.floor(self.topic) is not None:
            self._meet(side)

    def _passes(self, side: Side, received: Received) -> bool:
        event: Any = received.event
        if isinstance(event, Lost):
            is_over = self._known is None and event.last <= self.fact
            if is_over:
                self._forget()
            return is_over
        if event.height <= self.fact:
            self._drop(side, event)
            return True
        if self._leaves_out(side, received, event.height):
            return False
        self._pass(side, received, event)
        return True

    def _pass(self, side: Side, received: Received, event: Any) -> None:
        self.fact = side.reach = event.height
        self._newest = event
        self._note(event.height)
        self.deliver(side, received)

    def _note(self, height: int) -> None:
        heights = self._heights
        heights[height] = None
        if len(heights) > _HEIGHTS:
            del heights[next(iter(heights))]

    def _drop(self, side: Side, event: Any) -> None:
        """Drop a second copy."""
        side.reach = max(side.reach, event.height)
        newest, height = self._newest, event.height
        if newest is not None and height == newest.height:
            if _differ(newest, event):
                self.cells.differ(side.cell, self.topic, f"height {height}")
        elif self._is_late(height):
            # Its absence was announced too late. Delivered now, it would be out of order.
            self._note(height)
            self.lose(side, "height", height, height, "it came after a later block")

    def _is_late(self, height: int) -> bool:
        """Whether a block below the newest was neither delivered nor named as lost."""
        heights = self._heights
        if height in heights or height <= self._floor or not heights:
            return False
        return height > next(iter(heights))

    def _leaves_out(self, side: Side, received: Received, height: int) -> bool:
        """Whether a cell lacks, or may lack, blocks between the last delivered one and this one."""
        first, last = self.fact + 1, height - 1
        if self.fact < 0:
            first = self._floor + 1
        if side.lost and side.lost.within(first, last):
            return True
        if received.healed and first <= last:
            # The announcement of a gap may have been lost together with it.
            position = side.cell.inbox.position(self._gap_topic)
            if position is None or position.complete < last:
                return True
        gaps = self.cells.gaps_of(self.topic)
        return gaps is not None and bool(gaps.missing(side.cell.index, first, last))

    def _watermark(self, side: Side) -> int:
        """Return the height through which a cell has sent everything that it has."""
        return max(side.reach, side.cell.inbox.complete(self.topic))

    def _skip(self, side: Side, received: Received, due: int) -> None:
        """Go on behind what no cell has."""
        event: Any = received.event
        first = self._floor + 1 if self._known is not None else max(self.fact, self._floor) + 1
        for a, b in self._lost_by_all(first, due):
            for height in range(max(a, b - _HEIGHTS), b + 1):
                self._note(height)
            self.lose(side, "height", a, b, LOST_BY_ALL)
            for one in self.sides:
                # Named: another cell that reports the same heights later does not name them again.
                one.lost.discard(a, b)
        side.reach = max(side.reach, due)
        self._forget()
        if isinstance(event, Lost):
            self.fact = max(self.fact, due)
        else:
            self._pass(side, received, event)

    def _forget(self) -> None:
        """Forget losses that all cells have passed: each was delivered or named, and is not needed again."""
        cells = [side.cell for side in self.sides if side.cell.offers(self.topic)]
        through = min((cell.inbox.complete(self.topic) for cell in cells), default=-1)
        # Trades that have ids may come late.
        through = min(through, self.fact) if self._known is None else through - _HEIGHTS
        for side in self.sides:
            side.lost.discard(0, through)

    def _lost_by_all(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return the heights that a cell reported lost, and that no other cell can deliver."""
        gaps = self.cells.gaps_of(self.topic)
        told = Ranges(part for side in self.sides for part in side.lost.within(first, last))
        lost = list(told)
        for side in [side for side in self.sides if side.cell.is_ours]:
            self._meet_quiet(side)
            missing = Ranges(side.lost)
            missing.add(self._watermark(side) + 1, _FOREVER)
            if gaps is not None:
                for a, b in gaps.missing(side.cell.index, first, last):
                    missing.add(a, b)
            lost = [part for a, b in lost for part in missing.within(a, b)]
        return lost

    def _take_by_id(self, side: Side, received: Received, event: Any) -> None:
        """Take trades that may come late, or one by one: each by its id."""
        if self._known is None:
            self._known, self._whole_to = KnownTrades(), self.fact
        side.reach = max(side.reach, event.height)
        fresh = self._known.take(event.trades) if event.height > self._whole_to else []
        if not fresh:
            return
        self.fact = max(self.fact, event.height)
        if len(fresh) < len(event.trades):
            part = msgspec.structs.replace(event, trades=fresh)
            received = msgspec.structs.replace(received, event=part, body=b"")
        self.deliver(side, received)


def gap_symbol(topic: str) -> str:
    """Return the market whose gaps concern blocks of a topic."""
    channel, symbol = split(topic)
    return CHAIN.symbol if channel in CHAIN_WIDE else symbol


def _due(received: Received) -> int:
    """Return the height through which the other cells are waited for."""
    event: Any = received.event
    return int(event.last if isinstance(event, Lost) else event.height - 1)


def _differ(one: Any, other: Any) -> bool:
    """Whether two copies of a block's trades differ."""
    return isinstance(one, Trades) and isinstance(other, Trades) and one.trades != other.trades
