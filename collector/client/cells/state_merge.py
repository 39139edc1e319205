"""A state of several cells, whose newest event suffices: a ticker, a funding rate. Pure."""

from typing import Any

import msgspec

from collector.client.book_count import Count
from collector.client.cells.cell import Cells
from collector.client.cells.merge import Merge, Side
from collector.client.received import Lost, Received
from shards.protocol.events import Funding, Ticker


class StateMerge(Merge):
    """A state, whose newest event suffices: tickers by sequence, others by height."""

    def __init__(self, topic: str, cells: Cells) -> None:
        super().__init__(topic, cells)
        self._count = Count()
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
            if self._count.is_past(event):
                return
            number = event.sequence
            if self._count.begins_again(event, self.fact):
                self.fact = -1
        if number <= self.fact or self._is_told(event):
            return
        self.fact = number
        if isinstance(event, Ticker):
            self._count.follow(event)
        self.deliver(side, received)

    def _is_told(self, event: Any) -> bool:
        """Whether another cell has sent the same state, as of an earlier block."""
        if not isinstance(event, Funding):
            return False
        bare = msgspec.structs.replace(event, height=0, ts_event=0, ts_recv=0, source="")
        told, self._funding = self._funding, bare
        return told == bare
