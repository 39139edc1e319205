"""
Which chain a node serves: its id, and block hashes at remembered heights. Pure.

An address does not prove which node answers there. A node's blocks belong to our chain if its
network id is ours, every block hash that both know is the same, and time increases with height.
Consensus gives every block a later time than its predecessor, so a lower block with a later
time belongs to another chain, even if the two have no known height in common. So does a higher
block with an earlier time.
"""

from typing import Final, Literal, TypeAlias

import msgspec

from shards.protocol.text import printable

Role: TypeAlias = Literal["rpc", "queries", "events", "stream"]
"""What an endpoint serves: records of blocks, books and markets, events, or the stream."""

_KEPT: Final = 4
"""Marks kept per chain: the first one seen, and the newest."""
_APART: Final = 100
"""Blocks between two marks."""
SAME_NS: Final = 2_000_000
"""Streams and event providers have block times in ms, the record in ns."""


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """One block: its height, its hash, its time in ns since the epoch."""

    height: int
    hash: str
    time: int


class Chain(msgspec.Struct, frozen=True, array_like=True):
    """What is known of the chain being collected."""

    id: str = ""
    """The network's id, ``injective-1``; empty until a node has reported it."""
    generation: int = 0
    """Grows whenever another chain replaces this one: the instant of the replacement, in ns."""
    marks: tuple[Mark, ...] = ()
    """Known blocks, by height."""

    @property
    def name(self) -> str:
        """Its name, for people: an indexer alone does not say which network it follows."""
        return f"the chain {self.id}" if self.id else "the chain"

    def learned(self, view: "NodeView") -> "Chain":
        """Return the chain extended by what one of its nodes shows."""
        marks = self.marks
        if not view.latest.hash:
            # A query server: it names its network, but no block to remember.
            return Chain(self.id or view.network, self.generation, marks)
        if not marks:
            marks = (view.earliest, view.latest) if view.earliest.hash else (view.latest,)
            marks = tuple({mark.height: mark for mark in marks}.values())
            return Chain(self.id or view.network, self.generation, marks)
        return Chain(self.id or view.network, self.generation, self.extended(view.latest).marks)

    def extended(self, mark: Mark) -> "Chain":
        """Return the chain with one more known block, unless it is close to the newest."""
        marks = self.marks
        if marks and mark.height < marks[-1].height + _APART:
            return self
        return Chain(self.id, self.generation, (*marks[:1], *marks[1:][-(_KEPT - 2) :], mark))

    def contradiction(self, view: "NodeView", also: Mark | None = None) -> str:
        """
        Say how a node contradicts this chain; empty if it does not.

        ``also`` is one more block, fetched from the node.
        """
        if self.id and view.network and view.network != self.id:
            return f"it is of network {printable(view.network, 60)}, not {self.id}"
        asked = () if also is None else (also,)
        for shown in (view.latest, view.earliest, *asked):
            for mark in self.marks:
                if shown.height != mark.height:
                    continue
                if shown.hash and mark.hash and shown.hash != mark.hash:
                    return f"its block {shown.height} has another hash than before"
                if shown.time and mark.time and abs(shown.time - mark.time) > SAME_NS:
                    return f"its block {shown.height} was made at another time than ours"
        for shown in (view.latest, *asked):
            for mark in self.marks:
                if reason := disorder(shown, mark):
                    return reason
        return ""


def disorder(shown: Mark, ours: Mark) -> str:
    """Say how a block cannot be of one chain with a block of ours; empty if it can, or no time is known."""
    if not (shown.time and ours.time):
        return ""
    if shown.height < ours.height and shown.time > ours.time:
        return f"its block {shown.height} is later than our block {ours.height}"
    if shown.height > ours.height and shown.time + SAME_NS < ours.time:
        return f"its block {shown.height} is earlier than our block {ours.height}"
    return ""


class NodeView(msgspec.Struct, frozen=True):
    """What a node's status shows: network, newest block, earliest block."""

    network: str
    """Its id; empty if only its blocks identify the chain, as with an event provider."""
    latest: Mark
    """Its hash is empty, or its time 0, if the server does not report it."""
    earliest: Mark
    """Its hash is empty if the node does not report it."""
    catching_up: bool
