"""
The nodes that are read at once (``redundancy``), over all shards, and which one is worse. Pure.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from collector.client.summary import Path
from shards.protocol.control import PathReport

_BEHIND: Final = 3
"""Blocks from which on a node counts as behind; two nodes never have a block at the same instant."""
_LATE_US: Final = 1_000.0
"""Below this, which of two nodes is later is chance."""

_Badness: TypeAlias = tuple[int, int, int, float]


def paths(reports: Iterable[Iterable[PathReport]]) -> list[Path]:
    """Add up what the shards report of each node, and name the worse one."""
    by_path: dict[tuple[int, str], list[PathReport]] = {}
    for of_shard in reports:
        for report in of_shard:
            by_path.setdefault((report.path, report.endpoint), []).append(report)
    found = [_added(number, endpoint, same) for (number, endpoint), same in sorted(by_path.items())]
    return _with_worse(found)


def _added(number: int, endpoint: str, same: list[PathReport]) -> Path:
    compared = sum(report.compared for report in same)
    late_us = sum(report.late_us * report.compared for report in same) / max(1, compared)
    return Path(
        path=number,
        endpoint=endpoint,
        shards=len(same),
        markets=sum(report.markets for report in same),
        height=max(report.height for report in same),
        first=sum(report.first for report in same),
        second=sum(report.second for report in same),
        late_us=round(late_us, 1),
        compared=compared,
        differed=sum(report.differed for report in same),
        contradicted=sum(report.contradicted for report in same),
    )


def _with_worse(found: list[Path]) -> list[Path]:
    """Mark the worse node, if there is one."""
    if len(found) < 2:
        return found
    head = max(path.height for path in found)
    ranked = sorted(found, key=lambda path: _badness(path, head))
    worst, best = ranked[-1], _badness(ranked[0], head)
    why = _why(worst, head, best)
    if not why:
        return found
    return [
        msgspec.structs.replace(path, worse=True, reason=why) if path is worst else path
        for path in found
    ]


def _badness(path: Path, head: int) -> _Badness:
    behind = head - path.height
    seconds = path.second / max(1, path.first + path.second)
    late_us = path.late_us if path.late_us > _LATE_US and seconds > 0.5 else 0.0
    return path.contradicted, -min(1, path.markets), behind if behind >= _BEHIND else 0, late_us


def _why(path: Path, head: int, best: _Badness) -> str:
    """Return why a node is worse than the best one; empty if it is not."""
    bad = _badness(path, head)
    if bad[0] > best[0]:
        return f"the chain's record contradicts {path.contradicted} of its blocks"
    if bad[1] > best[1]:
        return "it serves no market"
    if bad[2] > best[2]:
        return f"{head - path.height} blocks behind the other"
    if bad[3] > best[3]:
        return f"its blocks come {path.late_us / 1000:.1f} ms after the other's"
    return ""
