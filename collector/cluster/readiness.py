"""Whether a cell counts as a complete replica. Pure."""

from typing import Final

from collector.client.summary import Summary

STUCK_S: Final = 10.0
"""
After this time without progress, an open gap counts as one that no node can fill.

It stays open for ever then, but it is older than all that the cell has had since.
"""


class Readiness:
    """What a cell's summaries say, one after the other."""

    def __init__(self) -> None:
        self._filled = (0, 0, 0)
        self._since = 0.0

    def take(self, summary: Summary, now: float) -> bool:
        """Take a summary; return whether all markets are live, and no gap is being filled."""
        is_live = summary.covers(1.0)
        filled = (summary.gaps.open, summary.blocks.replayed, summary.blocks.missing)
        if filled != self._filled or not is_live:
            self._filled, self._since = filled, now
        return is_live and (not summary.gaps.open or now - self._since >= STUCK_S)
