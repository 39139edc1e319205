"""One cell of several, as a reader sees it, and what the merges of topics need. Pure."""

from collections.abc import Sequence
from typing import Protocol

from collector.client.cells.gap_merge import MarketGaps
from collector.client.received import Joined, Received
from collector.client.topic_sync import Inbox


class Cell:
    """One cell of several, and its state."""

    def __init__(self, index: int, name: str, inbox: Inbox) -> None:
        self.index = index
        self.name = name
        """Its publish endpoint."""
        self.inbox = inbox
        self.joined: Joined | None = None
        self.is_silent = False
        self.refused = ""
        """Why this cell is not read; empty if it is."""
        self.chain_id = ""
        """The id of its chain; empty while it is not known."""
        self.first_copies = 0
        """Number of events that it sent first."""
        self.differences = 0
        """Number of its events that differed from the first copy."""
        self.chains = 0
        """Number of chains that it has had."""
        self.is_behind = False
        """Whether another cell has learned of a new chain, and this one has not."""

    @property
    def is_ours(self) -> bool:
        """Whether its heights count: not those of another chain, nor of the one before."""
        return not self.is_behind and not self.refused

    @property
    def answers(self) -> bool:
        """Whether it answers."""
        return self.joined is not None and self.is_ours and not self.is_silent

    def offers(self, topic: str) -> bool:
        """Whether it answers, and has this topic."""
        return self.answers and self.inbox.offers(topic)

    def __repr__(self) -> str:
        how = self.refused or ("answers" if self.answers else "silent")
        return f"<Cell {self.name}: {how}, {self.first_copies} first>"


class Cells(Protocol):
    """The cells, the delivery of events, and what is known beside a topic's own events."""

    @property
    def cells(self) -> Sequence[Cell]:
        """The cells, in the order in which they were named."""

    def deliver(self, cell: Cell, received: Received) -> None:
        """Deliver a cell's event."""

    def await_more(self, topic: str) -> None:
        """Check a topic again after each turn, until none of its events waits."""

    def floor_of(self, topic: str) -> int | None:
        """Return the height at which the reader joined a topic; None if that is not known."""

    def gaps_of(self, topic: str) -> MarketGaps | None:
        """Return the gaps that may concern blocks of a topic; None if there never was one."""

    def differ(self, cell: Cell, topic: str, where: str) -> None:
        """Note that a cell's copy differs from the first one."""
