"""
The exchange itself: seeded, pure, and the truth that everything else is compared with.

Two exchanges of one seed and one activity make the same blocks. Kept blocks can be asked
for again, and so can every book at every kept height.
"""

import random
from collections import deque
from functools import cached_property
from typing import Final

import msgspec

from shards.protocol.events import Block, BookUpdate, Snapshot, Trade
from tests.simulator.books import BookHistory, Change, make_changes, opening
from tests.simulator.markets import ALL_BUSY, Kind, Shares, SimMarket, Status, make_markets
from tests.simulator.trading import Execution, Matching

_CHANGE_BITS: Final = 6
"""2 to the power of this many different book changes per kind of market. Encoders render
each once: that is what makes the simulator faster than what it tests."""

_DAY_MS: Final = 86_400_000

_LEAST: Final = 50
"""Blocks that are kept however many updates they have."""


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """How much happens in a block."""

    touched: float = 0.3
    """Chance of a busy market's book to change; 1.0 changes all of them in each block."""
    levels: int = 0
    """Levels of each update; 0 for any few of them, one side perhaps empty."""
    matches: float = 2.0
    """Matches in a block, on average; each gives two to four trades."""
    shares: Shares = Shares()


class SimBlock:
    """One block: what was executed and which books changed. Never altered once made."""

    def __init__(
        self, height: int, time_ms: int, executions: list[Execution], updates: list[BookUpdate]
    ) -> None:
        self.height = height
        self.time_ms = time_ms
        self.executions = executions
        self.updates = updates

    @cached_property
    def trades(self) -> list[tuple[str, Trade]]:
        """All trades by number: ``(market_id, trade)``."""
        return [(e.market_id, trade) for e in self.executions for trade in e.trades]

    @cached_property
    def trades_of(self) -> dict[str, list[Trade]]:
        """The trades by market."""
        found: dict[str, list[Trade]] = {}
        for market_id, trade in self.trades:
            found.setdefault(market_id, []).append(trade)
        return found

    @cached_property
    def update_of(self) -> dict[str, BookUpdate]:
        """The book updates by market."""
        return {update.market_id: update for update in self.updates}

    @cached_property
    def truth(self) -> Block:
        """The block as a complete and honest decoder would return it."""
        return Block(self.height, self.time_ms * 1_000_000, self.trades, self.updates)


class Exchange:
    """Markets, and one block after the other."""

    def __init__(
        self,
        seed: int = 1,
        *,
        markets: int = 20,
        activity: Activity = Activity(),  # noqa: B008 - frozen
        history: int = 1_000,
        history_updates: int = 500_000,
        first_height: int = 1_000,
        genesis_ms: int = 1_795_000_000_000,
        block_ms: int = 650,
    ) -> None:
        self.markets = make_markets(seed, markets, activity.shares)
        self.by_id = {market.market_id: market for market in self.markets}
        self.height = first_height - 1
        self.oldest = first_height
        self.activity = activity
        self._rng = random.Random(f"exchange {seed}")
        self._busy: list[SimMarket] = []
        self._changes: dict[Kind, list[Change]] = {}
        self._matching = Matching(self._rng)
        self._books = {
            m.market_id: BookHistory(opening(m, self._rng), self.height) for m in self.markets
        }
        self._look_around()
        self._blocks: deque[SimBlock] = deque()
        self._history = history
        self._history_updates = history_updates
        self._kept_updates = 0
        self._seed = seed
        self._time_ms = genesis_ms
        self._block_ms = block_ms
        self.chain = str(seed)
        """What tells this chain's block hashes from another's."""

    def market(self, name: str) -> SimMarket:
        """Return a market by its id or its ticker; raises KeyError."""
        if name in self.by_id:
            return self.by_id[name]
        for market in self.markets:
            if market.ticker == name:
                return market
        raise KeyError(name)

    def set_status(self, name: str, status: Status) -> SimMarket:
        """Pause a market or let it go on; raises KeyError."""
        market = msgspec.structs.replace(self.market(name), status=status)
        self.by_id[market.market_id] = market
        self.markets = tuple(self.by_id.values())
        self._look_around()
        return market

    def list_market(self, ticker: str | None = None) -> SimMarket:
        """Launch one more market, with an empty book; of any name, as anybody may."""
        number = len(self.markets)
        market = make_markets(self._seed, number + 1, ALL_BUSY)[number]
        market = msgspec.structs.replace(market, ticker=market.ticker if ticker is None else ticker)
        book = Snapshot(market.market_id, 0, 0, [], [])
        self._books[market.market_id] = BookHistory(book, self.height)
        self.by_id[market.market_id] = market
        self.markets = (*self.markets, market)
        self._look_around()
        return market

    def begin_again(self, seed: int, first_height: int = 1) -> None:
        """Be another chain with the same markets: another genesis, other blocks and books."""
        self.height = first_height - 1
        self.oldest = first_height
        self._rng = random.Random(f"exchange {seed}")
        self._matching = Matching(self._rng)
        self._books = {
            m.market_id: BookHistory(opening(m, self._rng), self.height) for m in self.markets
        }
        self._changes.clear()
        self._look_around()
        self._blocks.clear()
        self._kept_updates = 0
        self.chain = str(seed)

    def count_again(self, name: str, sequence: int = 0) -> SimMarket:
        """Let a book's sequence begin again while heights go on; raises KeyError."""
        market = self.market(name)
        self._books[market.market_id].count_again(self.height, sequence)
        return market

    def _look_around(self) -> None:
        """See which markets are busy now."""
        self._busy = [m for m in self.markets if m.status == "Active" and m.activity == "busy"]
        for market in self._busy:
            if market.kind not in self._changes:
                changes = 1 << _CHANGE_BITS, self.activity.levels
                self._changes[market.kind] = make_changes(market, self._rng, *changes)

    def next_block(self, time_ms: int = 0) -> SimBlock:
        """Make the next block, at this time or one block time after the last."""
        self.height += 1
        self._time_ms = time_ms or self._time_ms + self._block_ms
        executions = self._matching.block(self.height, self._matched())
        pick = self._rng.getrandbits
        updates = [
            self._books[market.market_id].add(
                self.height, self._changes[market.kind][pick(_CHANGE_BITS)]
            )
            for market in self._touched()
        ]
        block = SimBlock(self.height, self._time_ms, executions, updates)
        self._blocks.append(block)
        self._kept_updates += len(updates)
        while len(self._blocks) > self._history or (
            self._kept_updates > self._history_updates and len(self._blocks) > _LEAST
        ):
            self._forget()
        return block

    def _touched(self) -> list[SimMarket]:
        chance, rng = self.activity.touched, self._rng
        # The node's lists come out of a map: in any order.
        if chance >= 1.0:
            first = rng.randrange(len(self._busy)) if self._busy else 0
            return self._busy[first:] + self._busy[:first]
        touched = [market for market in self._busy if rng.random() < chance]
        rng.shuffle(touched)
        return touched

    def _matched(self) -> list[SimMarket]:
        if not self._busy:
            return []
        mean = self.activity.matches
        count = int(mean) + (self._rng.random() < mean - int(mean))
        if count and self._rng.random() < 0.25:
            count = self._rng.randint(0, 2 * count)
        return self._rng.choices(self._busy, k=count)

    def _forget(self) -> None:
        gone = self._blocks.popleft()
        self._kept_updates -= len(gone.updates)
        for update in gone.updates:
            self._books[update.market_id].forget(gone.height)
        self.oldest = gone.height + 1

    def block(self, height: int) -> SimBlock:
        """Return a kept block; raises KeyError for any other."""
        if not self.oldest <= height <= self.height:
            raise KeyError(height)
        return self._blocks[height - self.oldest]

    def trades_of(self, height: int) -> list[tuple[str, Trade]]:
        """Return all trades of a kept block, by number."""
        return self.block(height).trades

    def book_at(self, market_id: str, height: int = 0) -> Snapshot:
        """Return a whole book after a kept block, or now if 0; raises KeyError."""
        height = height or self.height
        if not self.oldest - 1 <= height <= self.height:
            raise KeyError(height)
        return self._books[market_id].at(height)

    def changed_ms(self, market_id: str) -> int:
        """Return the time of a book's last change, a day before the first block if none is kept."""
        height = self._books[market_id].changed_at
        if height < self.oldest:
            return self.block(self.oldest).time_ms - _DAY_MS
        return self.block(height).time_ms

    def sequence(self, market_id: str) -> int:
        """Return the newest sequence of a market's book."""
        return self._books[market_id].sequence
