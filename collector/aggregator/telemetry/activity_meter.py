"""How active each market is: from its published events, or from evidence before there are any."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from collector.markets import activity
from collector.markets.activity import NOTHING, Assessment, Level

OF_LATE_S: Final = 300.0
"""A market that changed within this time is active."""
_RATE_S: Final = 60.0
"""Time constant of the average."""


class Counts(msgspec.Struct):
    """What was published of one market."""

    trades: int = 0
    book_updates: int = 0
    sequence: int = -1
    """Sequence of its book; -1 before the first."""


class Activity(NamedTuple):
    """How active one market is."""

    level: Level
    changes_per_s: float
    weight: float
    volume: float | None
    volume_blocks: int


_NO_MARK: Final = (0, 0)
"""Before the first book and the first trade; again after a chain was replaced."""


class _Heard(msgspec.Struct):
    """Measurements of one market."""

    changes: int = 0
    """Book updates and trades."""
    mark: tuple[int, int] = _NO_MARK
    """The book's sequence and the number of trades: values that change only with the market. A
    fetched snapshot counts as an update, but is no change."""
    changed_at: float | None = None
    since: float = 0.0
    """When measuring began."""
    looked_at: float | None = None
    """When it was last measured."""
    rate: float = 0.0
    """Changes per second, averaged."""


class ActivityMeter:
    """Levels and weights of the markets; instants are monotonic seconds."""

    def __init__(self, assessed: Assessment) -> None:
        self._assessed = assessed
        self._heard: dict[str, _Heard] = {}
        self._looked_at: float | None = None

    @property
    def markets(self) -> Iterable[str]:
        """The ids of all markets of which counts were taken, and of those alone."""
        return self._heard.keys()

    def look(self, counts: Mapping[str, Counts], now: float) -> None:
        """
        Take the counts of trades and book updates by market id, of all markets or some of them.

        A market's first counts are taken as new since the last look. One whose chain was replaced has
        counts of zero until something of the new chain is published.
        """
        before, self._looked_at = self._looked_at, now
        for market_id, count in counts.items():
            heard = self._heard.get(market_id)
            if heard is None:
                heard = self._heard[market_id] = _Heard(since=now, looked_at=before)
            elapsed_s = now - heard.looked_at if heard.looked_at is not None else 0.0
            heard.looked_at = now
            changes = count.trades + count.book_updates
            # Fewer than before: a restarted aggregator counts from 0.
            new = max(0, changes - heard.changes)
            heard.changes = changes
            mark = (max(count.sequence, 0), count.trades)
            if mark != heard.mark:
                if _NO_MARK not in (mark, heard.mark):
                    heard.changed_at = now
                heard.mark = mark
            if elapsed_s:
                # In the first minute, average over the time measured so far.
                measured_s = min(_RATE_S, max(elapsed_s, now - heard.since))
                share = min(1.0, elapsed_s / measured_s)
                heard.rate += share * (new / elapsed_s - heard.rate)

    def level(self, market_id: str, now: float) -> Level:
        """Return how active a market is."""
        heard = self._heard.get(market_id)
        if heard is not None and heard.changed_at is not None:
            return "active" if now - heard.changed_at <= OF_LATE_S else "quiet"
        found = activity.level(self._assessed.get(market_id, NOTHING))
        listened_s = now - heard.since if heard is not None else 0.0
        # Active before we measured but silent ever since: no longer active.
        return "quiet" if found == "active" and listened_s > OF_LATE_S else found

    def measured(self, market_id: str, now: float, block_time_s: float) -> Activity:
        """Return a market's level, its rate, and its weight for placement."""
        rate = self._heard.get(market_id, _Heard()).rate
        evidence = self._assessed.get(market_id, NOTHING)
        return Activity(
            self.level(market_id, now),
            round(rate, 3),
            round(activity.measured_weight(rate * block_time_s), 2),
            evidence.volume,
            evidence.blocks,
        )
