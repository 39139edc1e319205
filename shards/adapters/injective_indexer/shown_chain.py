"""
Whether an indexer still shows the chain that it, or another one, showed before. Pure.

An indexer keeps what it listed, and time increases with height. So it shows another chain if

- its newest trades are lower than one that was listed before, and later; or
- it lists later trades, and none of those that were listed before.

A chain that is higher than ours therefore shows only where the indexer's record was replaced with
it. An indexer that keeps its old trades and goes on with a higher chain cannot be told from one
whose chain made blocks in the meantime; an RPC can tell.
"""

from collections.abc import Collection, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from shards.protocol.chain import Mark, disorder

Kind: TypeAlias = Literal["ours", "foreign", "unclear"]

_KEPT: Final = 8
"""Blocks remembered."""
_APART_NS: Final = 5_000_000_000
"""Time between two of them, so that one replica that is behind does not lack all."""
_LOWER: Final = 3
"""So many later and lower blocks, and none that is later and higher, are another chain's, even if
the list has our trades as well: a single trade with a wrong time is not."""


class Found(NamedTuple):
    """What an endpoint shows, and why."""

    kind: Kind
    reason: str = ""
    is_proved: bool = False
    """Whether a node with our chain's blocks said so."""


OURS: Final = Found("ours")


class ShownChain:
    """The blocks that were listed, of one chain."""

    def __init__(self, marks: Collection[Mark] = ()) -> None:
        """``marks`` are those of an earlier process; those with a hash come from an RPC."""
        self.marks = [mark for mark in marks if mark.time and not mark.hash]
        self.is_inherited = bool(self.marks)
        """Whether no indexer has shown these marks to this process yet."""

    def learn(self, listed: Sequence[Mark]) -> None:
        """
        Remember the highest listed block.

        The latest one may be lower: a trade that is listed with a wrong time. If that was
        remembered when it was the highest, it is forgotten now.
        """
        if self.is_inherited:
            self.is_inherited, self.marks = False, []
        if not listed:
            return
        newest, marks = max(listed, key=lambda mark: mark.height), self.marks
        while marks and disorder(newest, marks[-1]):
            marks.pop()
        if not marks or newest.time >= marks[-1].time + _APART_NS:
            self.marks = [*marks[1 - _KEPT :], newest]

    def judge(self, listed: Sequence[Mark], *, has_ours: bool) -> Found:
        """
        Compare what an endpoint lists, latest first, with what was listed before.

        Args:
            has_ours: Whether the endpoint still lists one of the remembered blocks.

        """
        if not self.marks:
            return OURS
        ours = self.marks[-1]
        later = [mark for mark in listed if mark.time > ours.time]
        if has_ours:
            lower = [mark for mark in later if mark.height < ours.height]
            if len(lower) >= _LOWER and len(lower) == len(later):
                return Found("foreign", disorder(lower[0], ours))
            return OURS
        if listed and (reason := disorder(listed[0], ours)):
            return Found("foreign", reason)
        if self.is_inherited:
            # Long ago perhaps: an indexer need not keep its trades for ever.
            return OURS
        if later:
            return Found("foreign", "it lists none of the trades that were listed before")
        if listed:
            return Found(
                "unclear", "the trades that were listed before are newer than all it lists"
            )
        return Found("unclear", "it lists no trades, and trades were listed before")
