"""
The trade proof over parts: a block is whole when the parts' counts add up.

The chain numbers a block's trades over all markets, from 0. A cell with a part of the markets
reports, for each block, how many trades it has and the highest number among them. Over all parts
the counts must add up to the highest number plus one; otherwise a trade is missing. Among replicas
of one part the highest count is right, because no replica can count too many. Pure.
"""

from collections.abc import Iterable, Sequence

from collector.client.summary import Proof


def added_up(proofs: Iterable[Proof]) -> Proof | None:
    """Return the combined proof of these cells; None if none of them has only a part."""
    parts: dict[str, list[Proof]] = {}
    for proof in proofs:
        if proof.part:
            parts.setdefault(proof.part, []).append(proof)
    if not parts:
        return None
    counts = sorted({part.partition("/")[2] for part in parts})
    if len(counts) > 1:
        return Proof(reason=f"not provable: the cells are parts of {' and of '.join(counts)}")
    names = [f"{number}/{counts[0]}" for number in range(1, int(counts[0]) + 1)]
    if away := [name for name in names if name not in parts]:
        return Proof(reason=f"not provable: part {', '.join(away)} does not answer")
    return _judged([_PartCounts(replicas) for replicas in parts.values()])


class _PartCounts:
    """The combined counts of one part's replicas, over the heights of the longest."""

    def __init__(self, replicas: Sequence[Proof]) -> None:
        spans = [(one.since or 0, one.through or 0) for one in replicas]
        self.since, self.through = max(spans, key=lambda span: span[1] - span[0])
        self.counts: dict[int, tuple[int, int]] = {}
        """Number of trades and the highest n, by height."""
        for replica in replicas:
            for height, number, highest in replica.blocks or ():
                before = self.counts.get(height, (0, -1))
                self.counts[height] = max(before, (number, highest))


def _judged(parts: Sequence[_PartCounts]) -> Proof:
    since = max(part.since for part in parts)
    through = min(part.through for part in parts)
    heights = {height for part in parts for height in part.counts if since <= height <= through}
    holes = []
    for height in sorted(heights):
        counts = [part.counts[height] for part in parts if height in part.counts]
        if sum(number for number, _ in counts) != max(highest for _, highest in counts) + 1:
            holes.append(height)
    return Proof(
        provable=True, whole=len(heights) - len(holes), holes=len(holes), heights=holes[-10:]
    )
