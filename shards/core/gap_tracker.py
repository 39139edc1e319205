"""The gap of one market: at most one is open at a time, and each has an id of its own."""

from collections.abc import Callable
from typing import Literal

import msgspec

from shards.protocol.events import Cause, Gap
from shards.protocol.histograms import FeedStats


class GapTracker:
    """Announces a hole when it opens, when more is known of it, and when it is filled."""

    __slots__ = ("_announce", "_newest_id", "_stats", "current", "market_id")

    def __init__(self, market_id: str, announce: Callable[[Gap], None], stats: FeedStats) -> None:
        self.market_id = market_id
        self._announce = announce
        self._stats = stats
        self.current: Gap | None = None
        """The open one."""
        self._newest_id = 0

    def open(self, cause: Cause, first: int, ts: int, detail: str = "") -> None:
        """Announce a hole from this height on; one that is open already takes it in."""
        if self.current is not None:
            return
        self._stats.gaps_opened += 1
        # The instant is the gap's id: two of one instant must differ.
        ts = self._newest_id = max(ts, self._newest_id + 1)
        self.current = Gap(self.market_id, ts, "open", cause, first, 0, ts, detail)
        self._announce(self.current)

    def adopt(self, gap: Gap | None, first: int, ts: int) -> None:
        """Go on with the gap that a process left open that died; it is one if there was none."""
        if gap is None:
            self.open("crash", first, ts)
        else:
            self.current = gap
            self._newest_id = max(self._newest_id, gap.gap_id)

    def widen(self, first: int, ts: int, detail: str) -> None:
        """Announce again that it is open, if it begins at an earlier height than was known."""
        gap = self.current
        if gap is not None and first < gap.first:
            self.current = msgspec.structs.replace(gap, first=first)
            self._tell(gap, "open", first, 0, ts, detail)

    def close(self, last: int, ts: int, detail: str = "") -> None:
        """Announce that all of it is filled, through this height."""
        gap, self.current = self.current, None
        if gap is not None:
            self._stats.gaps_closed += 1
            self._tell(gap, "closed", gap.first, last, ts, detail)

    def leave_open(self, first: int, last: int, ts: int, detail: str) -> None:
        """Announce what of it nobody can fill, and leave it at that."""
        gap, self.current = self.current, None
        if gap is not None:
            self._tell(gap, "open", first, last, ts, detail)

    def _tell(
        self,
        gap: Gap,
        state: Literal["open", "closed"],
        first: int,
        last: int,
        ts: int,
        detail: str,
    ) -> None:
        self._announce(Gap(gap.market_id, gap.gap_id, state, gap.cause, first, last, ts, detail))
