"""
The proof that no trade is missing: a block's trade ids over all shards are 0 … max.

The chain numbers the trades of a block over all markets. The aggregator publishes each market's
trades once, so a block is complete exactly if the number of trades equals its highest number
plus one. This works only if every market of the network is collected. Pure.
"""

from collections import deque
from typing import Final

from collector.client.summary import Proof

_COUNTED: Final = 256
"""Blocks whose counts are kept for the proof over parts."""
_OPEN: Final = 16_384
"""Blocks with trades that may wait to be judged, some hours' worth. None is judged while a market cannot be
subscribed or no endpoint lists the markets; beyond this number the oldest are given up."""


class TradeProof:
    """Counts the trades of each block until all shards have accounted for it."""

    def __init__(
        self,
        *,
        every_market: bool,
        listed_through: int | None = None,
        unprovable: str = "",
        part: str = "",
    ) -> None:
        """
        Args:
            listed_through: See `listed`; None: the network's markets never change.
            unprovable: Why this source proves nothing; empty if it does.
            part: The part of the markets that is collected. Then blocks are only counted, for
                the one that adds the parts up (collector/client/cells/added_proof.py).

        """
        self._part = part
        self._counted: deque[tuple[int, int, int]] = deque()
        self._counted_since = 0
        self.every_market = every_market
        self._listed_through = listed_through
        self._unprovable = unprovable
        self.whole = 0
        self.holes: list[int] = []
        """Heights with missing trades; the newest hundred."""
        self._open: dict[int, tuple[int, int]] = {}
        self._judged = 0
        self._given_up = 0
        """Blocks through this height that were not judged before never will be."""

    def start_over(self) -> None:
        """Start over, for another chain."""
        self.whole = self._judged = self._given_up = 0
        self.holes = []
        self._open.clear()
        self._counted.clear()
        self._counted_since = 0

    def add(self, height: int, count: int, highest: int) -> None:
        """Add one market's trades of a block; ``highest`` is the highest n among them."""
        if height > self._judged and height > self._given_up:
            waiting = self._open
            counted, top = waiting.get(height, (0, -1))
            waiting[height] = (counted + count, max(top, highest))
            if len(waiting) > _OPEN:
                oldest = next(iter(waiting))
                del waiting[oldest]
                self._given_up = max(self._given_up, oldest)

    def listed(self, through: int, *, every_market: bool) -> None:
        """
        Note whether these were all the markets of the network, up to this height.

        Later blocks wait for the next listing: a new market may have traded in them.
        """
        self.every_market = every_market
        self._listed_through = through

    def judge(self, height: int, *, since: int) -> None:
        """
        Judge all blocks up to a height, now that every shard has accounted for them.

        Only from ``since`` on, the first block since which every market had joined.
        """
        if self._listed_through is not None:
            height = min(height, self._listed_through)
        if height <= self._judged:
            return
        # The first call only sets the start: of earlier blocks some trades may be lost.
        since = max(since, height + 1) if not self._judged else since
        # Of those, or of some of their trades, the counts are gone.
        since = max(since, self._given_up + 1)
        self._judged = height
        if not self.every_market:
            # What was counted before was not all of the part's trades.
            self._counted.clear()
            self._counted_since = height + 1
        self._counted_since = max(self._counted_since, since)
        for done in sorted(h for h in self._open if h <= height):
            counted, top = self._open.pop(done)
            if done < since or not self.every_market:
                continue
            if self._part:
                self._count(done, counted, top)
            elif counted == top + 1:
                self.whole += 1
            else:
                self.holes = [*self.holes[-99:], done]

    def _count(self, height: int, counted: int, top: int) -> None:
        """Keep a block's count for the sum over the parts."""
        self._counted.append((height, counted, top))
        if len(self._counted) > _COUNTED:
            self._counted_since = self._counted.popleft()[0] + 1

    def summary(self) -> Proof:
        """Return whether the proof is possible, and its result so far."""
        if self._unprovable:
            return Proof(reason=f"not provable: {self._unprovable}")
        if self._part:
            return Proof(
                reason=f"not provable by part {self._part} alone",
                part=self._part,
                since=self._counted_since,
                through=self._judged,
                blocks=list(self._counted),
            )
        if not self.every_market:
            return Proof(reason="not provable: subset of the network's markets")
        return Proof(
            provable=True, whole=self.whole, holes=len(self.holes), heights=self.holes[-10:]
        )
