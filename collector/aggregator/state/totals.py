"""
What the ledgers of all markets add up to, found in one pass over them. Pure.

The status, the samples and the trade proof need these numbers several times a second. With thousands
of markets a pass takes milliseconds, so the coverage makes one only after something has changed.
"""

from collections.abc import Iterable, Mapping

import msgspec

from collector.aggregator.state.market_state import NOBODY, MarketState
from collector.client.summary import BlockCounts, Gaps
from shards.protocol import ranges
from shards.protocol.ranges import RangeList


class Totals(msgspec.Struct, frozen=True):
    """All ledgers together."""

    blocks: BlockCounts
    gaps: Gaps
    accounted: int
    """The height through which the blocks of every collected market are accounted for."""
    joined_from: int
    """The first block since which every active market that is collected has joined; 0 while some have
    not."""
    missing: dict[str, int]
    """Blocks that are due but missing, by market id; without the markets that lack none."""
    holes: dict[str, RangeList]
    """The heights of those."""


def add_up(
    states: Mapping[str, MarketState],
    settled: int,
    *,
    statuses: Mapping[str, str],
    provable: bool,
) -> Totals:
    """
    Add up the ledgers; each block of each market counts once.

    Args:
        states: By market id.
        settled: The height through which blocks are due in every market.
        statuses: How the chain lists each market, by market id.
        provable: Whether the source shows every block; otherwise no blocks are counted.

    """
    settled = settled if provable else 0
    first = last = due = replayed = 0
    accounted = -1
    holes: dict[str, RangeList] = {}
    for market_id, state in states.items():
        begins, ends = state.first, state.last
        if not begins:
            continue
        is_removed = state.state == "inactive"
        if not is_removed and (ends < accounted or accounted < 0):
            accounted = ends
        first = begins if begins < first or not first else first
        last = ends if ends > last else last
        due += ends - begins + 1
        if state.replayed:
            replayed += ranges.count(state.replayed)
        # A removed market has no blocks due.
        is_behind = ends < settled and not is_removed
        if is_behind or state.missing:
            holes[market_id] = [*state.missing, *([(ends + 1, settled)] if is_behind else ())]
            due += settled - ends if is_behind else 0
    missing = {name: ranges.count(found) for name, found in holes.items()} if provable else {}
    lacking = sum(missing.values())
    received = due - replayed - lacking
    blocks = BlockCounts(
        first=first, last=last, due=due, received=received, replayed=replayed, missing=lacking
    )
    return Totals(
        blocks=blocks if provable else BlockCounts(),
        gaps=_gaps(states.values()),
        accounted=max(accounted, 0),
        joined_from=_joined_from(states, statuses),
        missing=missing,
        holes=holes,
    )


def _gaps(states: Iterable[MarketState]) -> Gaps:
    opened = closed = ended = 0
    for state in states:
        gaps = state.gaps
        if gaps.opened:
            opened += gaps.opened
            closed += gaps.closed
            if state.shard == NOBODY:
                # A gap that says that its market was removed stays open.
                ended += gaps.opened - gaps.closed
    return Gaps(opened=opened, closed=closed, open=opened - closed - ended)


def _joined_from(states: Mapping[str, MarketState], statuses: Mapping[str, str]) -> int:
    firsts = [
        state.first
        for name, state in states.items()
        # One that was removed before it ever joined never will.
        if statuses[name] == "Active" and state.shard != NOBODY
    ]
    return max(firsts) if firsts and all(firsts) else 0
