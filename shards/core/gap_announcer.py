"""The gap of one market: at most one is open at a time, and each has a unique id."""

from collections.abc import Callable
from typing import Literal

import msgspec

from shards.protocol.events import Cause, Gap
from shards.protocol.histograms import FeedStats


class GapAnnouncer:
    """Announces a gap when it opens, when it changes, and when it is filled."""

    __slots__ = ("_announce", "_newest_id", "_stats", "current", "market_id")

    def __init__(self, market_id: str, announce: Callable[[Gap], None], stats: FeedStats) -> None:
        self.market_id = market_id
        self._announce = announce
        self._stats = stats
        self.current: Gap | None = None
        """The open gap, if any."""
        self._newest_id = 0

    def open(self, cause: Cause, first: int, ts: int, detail: str = "") -> None:
        """Open a gap at this height; an open gap is extended instead."""
        if self.current is not None:
            return
        self._stats.gaps_opened += 1
        # The instant is the gap's id, so two gaps must not share one.
        ts = self._newest_id = max(ts, self._newest_id + 1)
        self.current = Gap(self.market_id, ts, "open", cause, first, 0, ts, detail)
        self._announce(self.current)

    def adopt(self, gap: Gap | None, first: int, ts: int) -> None:
        """Continue the gap that a dead process left open, or open one."""
        if gap is None:
            self.open("crash", first, ts)
        else:
            self.current = gap
            self._newest_id = max(self._newest_id, gap.gap_id)

    def widen(self, first: int, ts: int, detail: str) -> None:
        """Announce the open gap again if it begins at a lower height than was known."""
        gap = self.current
        if gap is not None and first < gap.first:
            self.current = msgspec.structs.replace(gap, first=first)
            self._announce_again(gap, "open", first, 0, ts, detail)

    def close(self, last: int, ts: int, detail: str = "") -> None:
        """Announce that the gap is filled completely, through this height."""
        gap, self.current = self.current, None
        if gap is not None:
            self._stats.gaps_closed += 1
            self._announce_again(gap, "closed", gap.first, last, ts, detail)

    def leave_open(self, first: int, last: int, ts: int, detail: str) -> None:
        """Announce which part of the gap cannot be filled; it stays open."""
        gap, self.current = self.current, None
        if gap is not None:
            self._announce_again(gap, "open", first, last, ts, detail)

    def uncollected(self, first: int) -> list[tuple[int, int]]:
        """Return the open gap's heights before this one, if the market was not collected then."""
        gap = self.current
        if gap is None or gap.cause != "removed" or not gap.first < first:
            return []
        return [(gap.first, first - 1)]

    def _announce_again(
        self,
        gap: Gap,
        state: Literal["open", "closed"],
        first: int,
        last: int,
        ts: int,
        detail: str,
    ) -> None:
        self._announce(Gap(gap.market_id, gap.gap_id, state, gap.cause, first, last, ts, detail))
