"""
Which orders to place, cancel and cross: one step per block, without a chain or a clock.

Prices and quantities are whole numbers of ticks. A maker keeps `LEVELS` orders on each side of
every market, around a price that wanders; a taker comes by and takes a few of them.
"""

from collections.abc import Sequence
from random import Random
from typing import Literal, NamedTuple

from collector.devnet.trading import Plan

LEVELS = 48
_REACH = LEVELS + 12
"""Orders further from the middle are cancelled."""
_SPREAD = 1
_TAKE_REACH = 6
"""How far through the middle a taker's price goes: it takes the near levels, never the book."""


_REDO = 3
"""Levels quoted again where a taker may have emptied them."""


class Order(NamedTuple):
    """A new order; its `cid` is how it is cancelled."""

    market: int
    is_buy: bool
    price: int
    quantity: int
    cid: str
    kind: Literal["limit", "market"] = "limit"


class Cancel(NamedTuple):
    """An order to take back; no harm if it was filled."""

    market: int
    cid: str


class Batch(NamedTuple):
    """What one account does in one block: first it clears, then it cancels, then it orders."""

    clears: list[int]
    """Markets where all its orders go, known or not."""
    cancels: list[Cancel]
    orders: list[Order]

    @classmethod
    def empty(cls) -> "Batch":
        """Give a batch to fill."""
        return cls([], [], [])


class _Side:
    """One maker's resting orders on one side, by price; some may be filled by now."""

    def __init__(self, *, is_buy: bool) -> None:
        self.is_buy = is_buy
        self.resting: dict[int, str] = {}
        self.taken = False

    def distance(self, price: int, mid: int) -> int:
        return mid - price if self.is_buy else price - mid

    def price(self, distance: int, mid: int) -> int:
        return mid - distance if self.is_buy else mid + distance

    def stale(self, mid: int, random: Random) -> list[int]:
        """Name the prices to quote again: crossed, far off, the best ones and one at random."""
        ordered = sorted(self.resting, key=lambda price: self.distance(price, mid))
        # A taker's orders are not followed; after one, the levels it may have emptied are redone.
        near = ordered[: _REDO if self.taken else 1]
        off = [p for p in ordered if not _SPREAD <= self.distance(p, mid) <= _REACH]
        some = random.sample(ordered, 1) if ordered and random.random() < 0.5 else []
        self.taken = False
        return list(dict.fromkeys([*near, *off, *some]))

    def missing(self, mid: int, limit: int) -> list[int]:
        """Name prices without an order, the best ones first."""
        prices = (self.price(distance, mid) for distance in range(_SPREAD, LEVELS + _SPREAD))
        return [price for price in prices if price not in self.resting][:limit]


class _Quotes:
    """What one maker wants in one market."""

    def __init__(self, mid: int) -> None:
        self.start = self.mid = mid
        self.sides = (_Side(is_buy=True), _Side(is_buy=False))
        self.unsure = False

    def has_book(self) -> bool:
        return all(side.resting for side in self.sides)

    def wander(self, random: Random) -> None:
        step = random.choice((-2, -1, -1, 0, 0, 0, 1, 1, 2))
        if random.random() < abs(self.mid - self.start) / self.start:
            step = 1 if self.mid < self.start else -1  # home, the likelier the further away
        self.mid += step


class Flow:
    """
    All orders of all accounts, block after block.

    The same plan, mids and seed give the same steps. `forget` a batch that may not have reached
    the chain: its markets start over.
    """

    def __init__(
        self, mids: Sequence[int], plan: Plan, *, makers: int, takers: int, seed: int
    ) -> None:
        """Trade the markets numbered by their place in `mids`, the prices they start at."""
        self._plan = plan
        self._makers = makers
        self._takers = takers
        self._random = Random(seed)
        self._quotes = [_Quotes(mid) for mid in mids]
        self._turns: list[int] = []
        self._idle: set[int] = set()
        """Markets without a crossing order at their last turn."""
        self._orders = 0

    def mid(self, market: int) -> int:
        """Give the price the market trades around now."""
        return self._quotes[market].mid

    def step(self) -> list[Batch]:
        """Give the next block's batches: one for each maker, then one for each taker."""
        batches = [Batch.empty() for _ in range(self._makers + self._takers)]
        markets = self._next_markets()
        share = max(2, self._plan.orders_per_block // (2 * max(1, len(markets))))
        for market in markets:
            had_book = self._quotes[market].has_book()
            self._quote(market, batches[market % self._makers], share)
            # A market order against an empty book is refused, and would count as this turn's.
            if had_book and (market in self._idle or self._random.random() < self._plan.cross):
                self._idle.discard(market)
                taker = self._makers + self._random.randrange(self._takers)
                batches[taker].orders.append(self._take(market))
            else:
                self._idle.add(market)
        return batches

    def forget(self, batch: Batch) -> None:
        """Take nothing for granted in the markets of the batch: clear them at their next turn."""
        touched = {order.market for order in batch.orders}
        touched.update(cancel.market for cancel in batch.cancels)
        for market in touched.union(batch.clears):
            self._quotes[market].unsure = True

    def forget_all(self) -> None:
        """Take nothing for granted anywhere, as after a restart of the node."""
        for quotes in self._quotes:
            quotes.unsure = True

    def _next_markets(self) -> list[int]:
        count = min(self._plan.markets_per_block, len(self._quotes))
        if len(self._turns) < count:
            everyone = list(range(len(self._quotes)))
            self._random.shuffle(everyone)
            self._turns += everyone
        turn, self._turns = self._turns[:count], self._turns[count:]
        return list(dict.fromkeys(turn))  # the last of one round may be the first of the next

    def _quote(self, market: int, batch: Batch, share: int) -> None:
        quotes = self._quotes[market]
        quotes.wander(self._random)
        if quotes.unsure:
            batch.clears.append(market)
            quotes.unsure = False
            for side in quotes.sides:
                side.resting.clear()
        for side in quotes.sides:
            for price in side.stale(quotes.mid, self._random):
                batch.cancels.append(Cancel(market, side.resting.pop(price)))
            for price in side.missing(quotes.mid, share):
                order = self._order(market, side.is_buy, price, self._random.randint(20, 300))
                side.resting[price] = order.cid
                batch.orders.append(order)

    def _take(self, market: int) -> Order:
        quotes = self._quotes[market]
        is_buy = self._random.random() < 0.5
        quotes.sides[is_buy].taken = True  # a buy takes from the sells, the second side
        price = quotes.mid + (_TAKE_REACH if is_buy else -_TAKE_REACH)
        order = self._order(market, is_buy, price, self._random.randint(20, 500))
        return order if self._random.random() < 0.5 else order._replace(kind="market")

    def _order(self, market: int, is_buy: bool, price: int, quantity: int) -> Order:
        self._orders += 1
        return Order(market, is_buy, price, quantity, f"{self._orders:x}")
