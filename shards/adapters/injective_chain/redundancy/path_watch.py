"""
Watch each path on its own: one that is silent, or steadily behind, while another brings blocks.

The chain's watch (liveness.py) sees only what all paths together bring. Nothing done here is seen
by readers: while a path reconnects, the others serve its markets.
"""

import asyncio
import logging
import time
from typing import Final

from shards.adapters.injective_chain.redundancy.arbiter import Path, Unit
from shards.adapters.injective_chain.redundancy.source import RedundantSource
from shards.core.blocks import Blocks
from shards.protocol.settings import Limits

log = logging.getLogger(__name__)

_LOOK_S: Final = 0.5
_LATE_S: Final = 1.0
"""Woken so late, this process may be what is behind, and not a path."""
_BEHIND: Final = 8
"""Blocks that a subscription may be behind the others of its path."""


class PathWatch:
    """Looks at the paths twice a second."""

    def __init__(self, source: RedundantSource, blocks: Blocks, limits: Limits) -> None:
        self._source = source
        self._blocks = blocks
        self._confirm_s = limits.confirm_s
        paths = source.arbiter.paths
        self._received = [0] * len(paths)
        self._moved_at = [time.monotonic()] * len(paths)
        self._lagging: dict[Unit, float] = {}
        """Since when a subscription has been behind its path."""

    async def run(self) -> None:
        """Watch; never returns."""
        while True:
            due = time.monotonic() + _LOOK_S
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            if now - due > _LATE_S:
                self._start_over(now)
            else:
                self.look(now)

    def _start_over(self, now: float) -> None:
        self._moved_at = [now] * len(self._moved_at)
        self._lagging.clear()
        self._source.endpoints.cannot_compare()

    def look(self, now: float) -> None:
        """Compare the paths with each other, at an instant of the monotonic clock."""
        arbiter = self._source.arbiter
        heights = [arbiter.height(path) for path in arbiter.paths]
        head = max(heights)
        for path, height in zip(arbiter.paths, heights, strict=True):
            if self._is_silent(path, now) and height < head:
                self._leave(path, head - height)
            elif height:
                pool = self._source.sources[path.number].endpoints
                pool.compare(height, head)
                self._look_at_units(path, height, now)

    def _is_silent(self, path: Path, now: float) -> bool:
        number = path.number
        received = path.first + path.second
        if received != self._received[number] or not path.units:
            if path.units:
                self._source.sources[number].endpoints.succeeded()
            self._received[number], self._moved_at[number] = received, now
        return now - self._moved_at[number] > self._blocks.mute_limit_s()

    def _leave(self, path: Path, behind: int) -> None:
        source = self._source.sources[path.number]
        reason = (
            f"no block for {self._blocks.mute_limit_s():.1f} s, now {behind} behind another node"
        )
        source.endpoints.unfit(reason)
        source.reconnect("mute", reason)

    def _look_at_units(self, path: Path, height: int, now: float) -> None:
        """Find single subscriptions that the node has dropped."""
        for unit in list(path.units.values()):
            if height - unit.newest <= _BEHIND:
                self._lagging.pop(unit, None)
                continue
            since = self._lagging.setdefault(unit, now)
            limit_s = self._blocks.mute_limit_s() if unit.newest else self._confirm_s
            if now - since > limit_s:
                self._lagging.pop(unit, None)
                log.info("path %d: a subscription is silent; resubscribing", path.number)
                for market_id in unit.lane.market_ids:
                    self._source.sources[path.number].resubscribe(market_id)
        if len(self._lagging) > 2 * len(path.units) + 64:
            # Subscriptions that have ended are left in it.
            self._lagging.clear()
