"""
One topic of several cells: which event is delivered, which is a copy, and which must wait.

An event that continues what was delivered passes at once, whichever cell has it first; the second
copy is dropped. If facts are missing before an event (its cell lost them), the event waits until no
other cell can still deliver them: each has sent everything up to there, or is silent. Facts that
all cells lost become a `Lost`. How facts are told apart is the channel's row
(shards/protocol/channels.py)::

    SEQUENCE, a book    BookMerge     a jump in the sequence leaves changes out
    HEIGHT, TRADES      BlockMerge    a `Lost`, or a gap of the market, leaves blocks out
    states              StateMerge    the newest replaces the older ones: nothing waits
    VALUE               ValueMerge    each cell goes through the same values

Pure.
"""

from collections import deque
from typing import Any, Final

import msgspec

from collector.client.cell import Cell, Cells
from collector.client.received import Lost, Received
from collector.client.topic_cursor import Position
from collector.client.topic_filter import split
from collector.client.whole_book import load_or_apply
from shards.adapters import registry
from shards.protocol.channels import BY_NAME, CHAIN_WIDE, Channel, Identity
from shards.protocol.events import Book, Funding, Ticker, Trades
from shards.protocol.frames import topic as topic_name
from shards.protocol.order_book import OrderBook
from shards.protocol.ranges import Ranges
from shards.protocol.settings import CHAIN
from shards.protocol.trade_ids import KnownTrades

PATIENCE_S: Final = 10.0
"""The longest wait for a cell that answers, but stays behind on a topic."""
_QUEUED: Final = 4_096
"""Limit of one cell's waiting events on one topic; beyond it the topic stops waiting."""
_AFTER: Final = 4_096
"""Changes remembered while no whole book is at hand."""
_VALUES: Final = 64
_HEIGHTS: Final = 1_024
_FOREVER: Final = 1 << 62
_BY_HEIGHT: Final = registry.trades_by_height()
_LOST_BY_ALL: Final = "no cell has it any more"


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
        found = [one for cell in cells if (one := cell.inbox.position(self.topic)) is not None]
        if not found:
            return Position(self.topic, 0, 0, 0)
        position = found[0].copy()
        position.fact = self.fact
        position.complete = self._complete_to(found)
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


class BookMerge(Merge):
    """A book: each change once, by its sequence; and a whole book after a loss."""

    def __init__(self, topic: str, cells: Cells) -> None:
        super().__init__(topic, cells)
        self._height = 0
        self._began_at = 0
        """Height at which the sequence restarted; 0 if it never did."""
        self._in_sync = False
        self._after: list[Book] = []
        """The changes delivered since the last loss; they can complete an older whole book."""
        self._newest: Book | None = None
        self._asked_at = -1.0

    def take(self, side: Side, received: Received) -> None:
        """Take a cell's next event."""
        event = received.event
        if type(event) is Book and not event.is_snapshot and not side.queue:
            if event.sequence == self.fact + 1 and self._in_sync:
                # The common case: the first copy of the next change.
                if event.height >= self._began_at:
                    self._continue(side, received, event)
                    if self.waits_since >= 0:
                        self._advance()
                    return
            elif event.sequence == self.fact and event.height == self._height:
                # The second copy.
                side.reach = event.sequence
                self._compare(side, event)
                return
        side.queue.append(received)
        self._advance()

    @property
    def is_waiting(self) -> bool:
        """Whether an event waits, or the reader waits for a whole book."""
        return (self.fact >= 0 and not self._in_sync) or super().is_waiting

    def settle(self, now: float) -> None:
        """Skip facts that no cell has any more; request a whole book after them."""
        self._advance()
        while heads := [side for side in self.sides if side.queue]:
            side = min(heads, key=_place)
            event = side.queue[0].event
            assert isinstance(event, Book)
            due = event.sequence - (not event.is_snapshot)
            patient = not self.patience_is_over(now)
            if patient and any(
                not other.queue and other.reach < due and other.cell.offers(self.topic)
                for other in self.others(side)
            ):
                break
            self._skip(side, side.queue.popleft(), event)
            self._advance()
        if self.fact >= 0 and not self._in_sync and now - self._asked_at >= 1.0:
            self._asked_at = now
            for cell in (side.cell for side in self.sides):
                if cell.offers(self.topic):
                    cell.inbox.want_book(self.topic)

    def resume(self, position: Position) -> None:
        """Go on behind what was delivered before, as the inboxes do."""
        super().resume(position)
        self._in_sync = position.in_sync

    def position(self) -> Position:
        """Return the reader's position."""
        position = super().position()
        position.in_sync = self._in_sync
        return position

    def _passes(self, side: Side, received: Received) -> bool:
        event = received.event
        if isinstance(event, Lost):
            # Drop it: the cell's next event does not follow, and waits.
            return True
        assert isinstance(event, Book)
        if 0 < event.height < self._began_at:
            return True
        if event.sequence < self.fact and event.height > self._height > 0:
            self._begin_again(side, received, event)
            return True
        if event.is_snapshot:
            return self._passes_snapshot(side, received, event)
        if self.fact < 0:
            # No whole book was delivered yet.
            return True
        if event.sequence == self.fact + 1:
            self._continue(side, received, event)
            return True
        side.reach = max(side.reach, min(event.sequence, self.fact))
        return event.sequence <= self.fact

    def _passes_snapshot(self, side: Side, received: Received, event: Book) -> bool:
        if self.fact < 0:
            self._load(side, received, event)
            return True
        if event.sequence > self.fact:
            return False
        side.reach = max(side.reach, event.sequence)
        first = self._after[0].sequence if self._after else self.fact + 1
        if not self._in_sync and event.sequence >= first - 1:
            self._complete(side, received, event)
        return True

    def _continue(self, side: Side, received: Received, event: Book) -> None:
        self.fact = side.reach = event.sequence
        self._height = event.height
        self._newest = event
        if not self._in_sync:
            self._after.append(event)
            del self._after[:-_AFTER]
        self.deliver(side, received)

    def _load(self, side: Side, received: Received, event: Book) -> None:
        self.fact = side.reach = event.sequence
        self._height = event.height
        self._in_sync, self._newest = True, None
        self._after.clear()
        self.deliver(side, received)

    def _complete(self, side: Side, received: Received, event: Book) -> None:
        """Apply to a whole book the changes that were delivered since."""
        book = OrderBook(event.market_id)
        load_or_apply(book, event)
        for change in self._after:
            if change.sequence > event.sequence:
                load_or_apply(book, change)
                event = change
        bids, asks = book.levels()
        event = msgspec.structs.replace(event, is_snapshot=True, bids=bids, asks=asks)
        reach = side.reach
        self._load(side, msgspec.structs.replace(received, event=event, healed=True), event)
        side.reach = reach

    def _skip(self, side: Side, received: Received, event: Book) -> None:
        """Go on behind what no cell has."""
        last = event.sequence - (not event.is_snapshot)
        self.lose(side, "sequence", self.fact + 1, last, _LOST_BY_ALL)
        self._in_sync = False
        self._after.clear()
        if event.is_snapshot:
            self._load(side, received, event)
        else:
            self._continue(side, received, event)

    def _begin_again(self, side: Side, received: Received, event: Book) -> None:
        """Continue with the book's restarted sequence."""
        self._began_at = event.height
        for other in self.sides:
            other.reach = -1
        if event.is_snapshot:
            self._load(side, received, event)
            return
        self.lose(side, "sequence", 0, event.sequence - 1, "the book's sequence restarted")
        self._in_sync = False
        self._after.clear()
        self._continue(side, received, event)

    def _compare(self, side: Side, event: Book) -> None:
        newest = self._newest
        if newest is None or (newest.bids == event.bids and newest.asks == event.asks):
            return
        if sorted(newest.bids) != sorted(event.bids) or sorted(newest.asks) != sorted(event.asks):
            self.cells.differ(side.cell, self.topic, f"sequence {event.sequence}")


def _place(side: Side) -> tuple[int, bool]:
    """Order waiting events: a change before a whole book that includes it."""
    event = side.queue[0].event
    assert isinstance(event, Book)
    return event.sequence, event.is_snapshot


class BlockMerge(Merge):
    """Facts by height, wanted for every block: trades, orders, blocks, oracle prices."""

    def __init__(self, topic: str, cells: Cells) -> None:
        super().__init__(topic, cells)
        self._gap_topic = topic_name("gap", gap_symbol(topic))
        self._floor = -1
        """Height at which the first cell joined: older facts are not wanted."""
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
        complete = min(one.complete for one in found)
        if self.is_waiting:
            return complete
        gaps = self.cells.gaps_of(self.topic)
        for side in self.sides:
            position = side.cell.inbox.position(self.topic)
            if position is None or position.complete <= complete or not side.is_met:
                continue
            first, last = complete + 1, position.complete
            missing = gaps is not None and gaps.missing(side.cell.index, first, last)
            if not missing and not side.lost.within(first, last):
                complete = last
        return complete

    def _meet(self, side: Side) -> None:
        """Note that a cell which joined later lacks the facts in between."""
        side.is_met = True
        position = side.cell.inbox.position(self.topic)
        floor = -1 if position is None else position.floor
        if all(not other.is_met for other in self.others(side)):
            self._floor = floor
        side.lost.add(self._floor + 1, floor)

    def _passes(self, side: Side, received: Received) -> bool:
        event: Any = received.event
        if isinstance(event, Lost):
            return self._known is None and event.last <= self.fact
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
        position = side.cell.inbox.position(self.topic)
        return max(side.reach, -1 if position is None else position.complete)

    def _skip(self, side: Side, received: Received, due: int) -> None:
        """Go on behind what no cell has."""
        event: Any = received.event
        first = self._floor + 1 if self._known is not None else max(self.fact, self._floor) + 1
        for a, b in self._lost_by_all(first, due):
            for height in range(max(a, b - _HEIGHTS), b + 1):
                self._note(height)
            self.lose(side, "height", a, b, _LOST_BY_ALL)
        side.reach = max(side.reach, due)
        if isinstance(event, Lost):
            self.fact = max(self.fact, due)
        else:
            self._pass(side, received, event)

    def _lost_by_all(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return the heights that a cell reported lost, and that no other cell can deliver."""
        gaps = self.cells.gaps_of(self.topic)
        told = Ranges(part for side in self.sides for part in side.lost.within(first, last))
        lost = list(told)
        for side in self.sides:
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
            received = msgspec.structs.replace(received, event=part)
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


class StateMerge(Merge):
    """A state, whose newest event suffices: tickers by sequence, others by height."""

    def __init__(self, topic: str, cells: Cells) -> None:
        super().__init__(topic, cells)
        self._height = 0
        self._began_at = 0
        self._funding: Funding | None = None

    def take(self, side: Side, received: Received) -> None:
        """Take a cell's next event."""
        event: Any = received.event
        if isinstance(event, Lost):
            if not any(other.cell.offers(self.topic) for other in self.others(side)):
                self.deliver(side, received)
            return
        number = event.height
        if isinstance(event, Ticker):
            if 0 < event.height < self._began_at:
                return
            number = event.sequence
            if number < self.fact and event.height > self._height > 0:
                self._began_at, self.fact = event.height, -1
        if number <= self.fact or self._is_told(event):
            return
        self.fact, self._height = number, event.height
        self.deliver(side, received)

    def _is_told(self, event: Any) -> bool:
        """Whether another cell has sent the same state, as of an earlier block."""
        if not isinstance(event, Funding):
            return False
        bare = msgspec.structs.replace(event, height=0, ts_event=0, ts_recv=0, source="")
        told, self._funding = self._funding, bare
        return told == bare


class ValueMerge(Merge):
    """Values that all cells send in the same order: how the chain lists a market."""

    def __init__(self, topic: str, cells: Cells) -> None:
        super().__init__(topic, cells)
        self._values: list[Any] = []
        """The values delivered, oldest first, without their instants."""
        self._gone = 0
        """Number of older values, which are no longer kept."""

    def take(self, side: Side, received: Received) -> None:
        """Take a cell's next event."""
        event: Any = received.event
        if isinstance(event, Lost):
            return
        bare, values = msgspec.structs.replace(event, ts=0), self._values
        for at in range(max(0, side.reach - self._gone), len(values)):
            if values[at] == bare:
                side.reach = self._gone + at
                return
        values.append(bare)
        if len(values) > _VALUES:
            del values[0]
            self._gone += 1
        side.reach = self._gone + len(values) - 1
        self.deliver(side, received)


def merge_of(topic: str, cells: Cells) -> Merge:
    """Return the merge that a topic's channel needs."""
    row: Channel = BY_NAME[split(topic)[0]]
    if row.identity is Identity.VALUE:
        return ValueMerge(topic, cells)
    if row.identity is Identity.SEQUENCE and not row.is_state:
        return BookMerge(topic, cells)
    if row.identity is Identity.SEQUENCE or not row.is_replayed:
        return StateMerge(topic, cells)
    return BlockMerge(topic, cells)
