"""Values that all cells send in the same order: how the chain lists a market. Pure."""

from typing import Any, Final

import msgspec

from collector.client.cells.cell import Cells
from collector.client.cells.merge import Merge, Side
from collector.client.received import Lost, Received

_VALUES: Final = 64


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
