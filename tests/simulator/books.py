"""One market's book over the kept blocks: what it was at any of their heights."""

import random
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from shards.protocol.events import ZERO, BookUpdate, Level, Snapshot
from tests.simulator.markets import SimMarket

DEPTH = 60
"""Price ticks either side of the middle in which levels come and go."""

_FOLD: Final = 256
"""Updates that are forgotten at once."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """The levels of one book update; many updates share one."""

    bids: list[Level]
    asks: list[Level]


def make_changes(market: SimMarket, rng: random.Random, count: int, levels: int) -> list[Change]:
    """Make book changes for one kind of market; of so many levels each, or of any few if 0."""
    return [_change(market, rng, levels) for _ in range(count)]


def _change(market: SimMarket, rng: random.Random, levels: int) -> Change:
    bids, asks = levels // 2, levels - levels // 2
    if not levels:
        bids = rng.randint(0, 6)
        asks = rng.randint(0 if bids else 1, 6)
    # The chain lists both sides by rising price. Deletes of levels never heard of happen.
    return Change(_levels(market, rng, bids, below=True), _levels(market, rng, asks, below=False))


def _levels(market: SimMarket, rng: random.Random, count: int, *, below: bool) -> list[Level]:
    reach = max(DEPTH, 2 * count)
    offsets = sorted(rng.sample(range(1, reach + 1), count), reverse=below)
    return [
        (
            market.price(market.kind.mid - offset if below else market.kind.mid + offset),
            ZERO if rng.random() < 0.3 else market.quantity(rng.randint(1, 90_000)),
        )
        for offset in offsets
    ]


def opening(market: SimMarket, rng: random.Random) -> Snapshot:
    """Make the book that a market has before the first block."""
    if market.activity == "dead":
        return Snapshot(market.market_id, 0, 0, [], [])
    sides = []
    for sign in (-1, 1):
        offsets = [offset for offset in range(1, DEPTH + 1) if rng.random() < 0.7]
        sides.append(
            [
                (market.price(market.kind.mid + sign * n), market.quantity(rng.randint(1, 90_000)))
                for n in offsets
            ]
        )
    return Snapshot(market.market_id, 0, rng.randint(1, 5_000), sides[0], sides[1])


class BookHistory:
    """A book at the oldest kept height, and the updates since."""

    def __init__(self, start: Snapshot, height: int) -> None:
        self.market_id = start.market_id
        self._base = _Depth(height, start.sequence, dict(start.bids), dict(start.asks))
        self._near = self._base
        """Some later state, so that asking for the newest book again and again is cheap."""
        self.sequence = start.sequence
        self.changed_at = height
        self._updates: deque[tuple[int, BookUpdate]] = deque()

    def add(self, height: int, change: Change) -> BookUpdate:
        """Change the book in a block; return the update with its sequence."""
        self.sequence += 1
        self.changed_at = height
        update = BookUpdate(self.market_id, self.sequence, change.bids, change.asks)
        self._updates.append((height, update))
        return update

    def count_again(self, height: int, sequence: int) -> None:
        """Begin counting the changes again: the book stays, the next change is sequence + 1."""
        depth = self.at(height)
        self._base = _Depth(height, sequence, dict(depth.bids), dict(depth.asks))
        self._near = self._base
        self._updates.clear()
        self.sequence = sequence

    def forget(self, height: int) -> None:
        """Let go of the states before a height; soon, because many at once are cheaper."""
        if len(self._updates) > _FOLD and self._updates[_FOLD][0] <= height:
            gone = [self._updates.popleft() for _ in range(_FOLD + 1)]
            self._base.apply(gone)

    def at(self, height: int) -> Snapshot:
        """Return the book as it stood after a block, best levels first."""
        start = self._near if self._base.height <= self._near.height <= height else self._base
        depth = start.copy()
        depth.apply([made for made in self._updates if start.height < made[0] <= height])
        depth.height = height
        self._near = depth
        return depth.snapshot(self.market_id)


class _Depth:
    """A book as dictionaries."""

    def __init__(
        self, height: int, sequence: int, bids: dict[str, str], asks: dict[str, str]
    ) -> None:
        self.height = height
        self.sequence = sequence
        self.bids = bids
        self.asks = asks

    def copy(self) -> "_Depth":
        return _Depth(self.height, self.sequence, dict(self.bids), dict(self.asks))

    def apply(self, updates: Sequence[tuple[int, BookUpdate]]) -> None:
        """Change the levels that some updates name."""
        if not updates:
            return
        self.height, self.sequence = updates[-1][0], updates[-1][1].sequence
        # Quantities are absolute: of updates that share their levels only the last counts.
        last = {(id(update.bids), id(update.asks)): update for _, update in reversed(updates)}
        for update in reversed(last.values()):
            _set(self.bids, update.bids)
            _set(self.asks, update.asks)

    def snapshot(self, market_id: str) -> Snapshot:
        def size(level: Level) -> tuple[int, str]:
            return len(level[0]), level[0]

        bids = sorted(self.bids.items(), key=size, reverse=True)
        asks = sorted(self.asks.items(), key=size)
        return Snapshot(market_id, self.height, self.sequence, bids, asks)


def _set(side: dict[str, str], levels: list[Level]) -> None:
    for price, quantity in levels:
        if quantity == ZERO:
            side.pop(price, None)
        else:
            side[price] = quantity
