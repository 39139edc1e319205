"""A book of several cells: each change once, by its sequence, and a whole book after a loss. Pure."""

from typing import Final

import msgspec

from collector.client.book_count import Count
from collector.client.cells.cell import Cells
from collector.client.cells.merge import LOST_BY_ALL, Merge, Side
from collector.client.received import Lost, Received
from collector.client.topic_cursor import Position
from collector.client.whole_book import load_or_apply
from shards.protocol.events import Book
from shards.protocol.order_book import OrderBook

_AFTER: Final = 4_096
"""Changes remembered while no whole book is at hand."""


class BookMerge(Merge):
    """A book: each change once, by its sequence; and a whole book after a loss."""

    def __init__(self, topic: str, cells: Cells) -> None:
        super().__init__(topic, cells)
        self._count = Count()
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
                if event.height >= self._count.began_at:
                    self._continue(side, received, event)
                    if self.waits_since >= 0:
                        self._advance()
                    return
            elif event.sequence == self.fact and event.height == self._count.height:
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
        self._count.place = position.place

    def position(self) -> Position:
        """Return the reader's position."""
        position = super().position()
        position.in_sync = self._in_sync
        position.place = self._count.place
        return position

    def _passes(self, side: Side, received: Received) -> bool:
        event = received.event
        if isinstance(event, Lost):
            if event.unit == "height" and not any(s.cell.offers(self.topic) for s in self.sides):
                # Its channel ended in the last cell that had it.
                self.deliver(side, received)
            # Otherwise drop it: the cell's next event does not follow, and waits.
            return True
        assert isinstance(event, Book)
        if self._count.is_past(event):
            return True
        if self._count.begins_again(event, self.fact):
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
        self._count.follow(event)
        self._newest = event
        if not self._in_sync:
            self._after.append(event)
            del self._after[:-_AFTER]
        self.deliver(side, received)

    def _load(self, side: Side, received: Received, event: Book) -> None:
        self.fact = side.reach = event.sequence
        self._count.follow(event)
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
        whole = msgspec.structs.replace(received, event=event, healed=True, body=b"")
        self._load(side, whole, event)
        side.reach = reach

    def _skip(self, side: Side, received: Received, event: Book) -> None:
        """Go on behind what no cell has."""
        last = event.sequence - (not event.is_snapshot)
        self.lose(side, "sequence", self.fact + 1, last, LOST_BY_ALL)
        self._in_sync = False
        self._after.clear()
        if event.is_snapshot:
            self._load(side, received, event)
        else:
            self._continue(side, received, event)

    def _begin_again(self, side: Side, received: Received, event: Book) -> None:
        """Continue with the book's restarted sequence."""
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
