"""
Which chain it is: its id, and block hashes at remembered heights. Pure.

An address says nothing of who answers there. A node's blocks belong to the chain that we know if
its network's id is ours, the hash of a block that both know is the same, and time goes up with
height: consensus makes every block's time later than that of the block before, so a lower block
with a later time is of another chain, even where no height is known to both.
"""

from typing import Final

import msgspec

from shards.protocol.text import printable

_KEPT: Final = 4
"""Marks of a chain: the first that was seen, and the newest ones."""
_APART: Final = 100
"""Blocks between two marks."""
SAME_NS: Final = 2_000_000
"""Streams and event providers tell a block's time to the millisecond, its record to the ns."""


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """One block: its height, its hash, its time in ns since 1970."""

    height: int
    hash: str
    time: int


class Chain(msgspec.Struct, frozen=True, array_like=True):
    """The chain that is collected, as far as it is known."""

    id: str = ""
    """The network's id, ``injective-1``; empty while no node has told it."""
    generation: int = 0
    """Grows each time that another chain takes this one's place: the instant of it, in ns."""
    marks: tuple[Mark, ...] = ()
    """Blocks that it has, by height."""

    def learned(self, view: "NodeView") -> "Chain":
        """Return the chain with what a node of it shows."""
        marks = self.marks
        if not view.latest.hash:
            # A server of queries: it names its network, and nothing to remember.
            return Chain(self.id or view.network, self.generation, marks)
        if not marks:
            marks = (view.earliest, view.latest) if view.earliest.hash else (view.latest,)
            marks = tuple({mark.height: mark for mark in marks}.values())
        elif view.latest.height >= marks[-1].height + _APART:
            marks = (marks[0], *marks[1:][-(_KEPT - 2) :], view.latest)
        return Chain(self.id or view.network, self.generation, marks)

    def contradiction(self, view: "NodeView", also: Mark | None = None) -> str:
        """
        Say why a node does not have this chain; empty where nothing speaks against it.

        ``also`` is one more block that the node was asked for.
        """
        if self.id and view.network and view.network != self.id:
            return f"it is of network {printable(view.network, 60)}, not {self.id}"
        asked = () if also is None else (also,)
        for shown in (view.latest, view.earliest, *asked):
            for mark in self.marks:
                if shown.height != mark.height:
                    continue
                if shown.hash and mark.hash and shown.hash != mark.hash:
                    return f"its block {shown.height} is another one than before"
                if shown.time and mark.time and abs(shown.time - mark.time) > SAME_NS:
                    return f"its block {shown.height} was made at another time than ours"
        for shown in (view.latest, *asked):
            for mark in self.marks:
                if shown.height < mark.height and shown.time > mark.time:
                    return f"its block {shown.height} is later than block {mark.height} was"
        return ""


class NodeView(msgspec.Struct, frozen=True):
    """What a node shows of itself when asked for its status."""

    network: str
    """Its id; empty where only its blocks tell the chain, as an event provider's."""
    latest: Mark
    """With an empty hash, or the time 0, where it does not tell."""
    earliest: Mark
    """With an empty hash where it does not tell."""
    catching_up: bool
