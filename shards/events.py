"""
Events: decoded, normalised, immutable facts. Their field order is the wire's.

Prices, quantities and amounts have one representation everywhere: the exact decimal
text that the chain prints, always with 18 decimals (``"10.013000000000000000"``).
It is never a binary float, it needs no conversion on the fast path, and two texts of
one kind compare equal exactly when the numbers do. For positive numbers the order of
``(len(text), text)`` is the order of the numbers.

Instants are int nanoseconds since the Unix epoch: ``ts_event`` is the block's time as
its header states it (milliseconds on the chain stream), ``ts_recv`` is when the payload
left our socket.

Fields may be appended, with a default; never reordered (docs/wire-format.md).
"""

from typing import Literal, TypeAlias

import msgspec

Level: TypeAlias = tuple[str, str]
"""One ``(price, quantity)`` row of a book side. In a delta the quantity is the new
absolute one, and ZERO removes the level."""

ZERO = "0.000000000000000000"

Source = Literal["chain-ws", "chain-grpc", "indexer-grpc", "replay"]
Side = Literal["buy", "sell"]
Cause = Literal[
    "mute", "disconnect", "seq", "height", "crash", "drop", "slow-subscriber", "halt", "garbage"
]


class Trade(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    One order's fill in one block. Both sides of a match are reported, each as a trade of
    its own: for volume count the buys only.
    """

    trade_id: str
    """``{height}_{n}``; n counts all trades of the block over all markets, from 0."""
    side: Side
    price: str
    quantity: str
    fee: str
    """In quote units; negative for a maker's rebate."""
    execution_type: str
    """``Market``, ``LimitFill``, ``LimitMatchRestingOrder``, ``LimitMatchNewOrder``, …"""
    order_hash: str
    subaccount_id: str
    fee_recipient: str
    cid: str = ""
    margin: str = ""
    """Derivatives only, else empty: the change of the position's margin."""
    payout: str = ""
    """Derivatives only, else empty."""


def number_of(trade: Trade) -> int:
    """Return a trade's n: its place among all trades of the block, over all markets."""
    return int(trade.trade_id.rpartition("_")[2])


class Trades(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All trades of one market in one block, in the chain's order (by n)."""

    market_id: str
    height: int
    ts_event: int
    ts_recv: int
    source: Source
    trades: list[Trade]


class Book(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    A change to one market's book, or the whole book where ``is_snapshot``.

    The chain changes a book at most once a block; ``sequence`` counts those changes per
    market and goes up by exactly one. A snapshot's bids run from the highest price down,
    its asks from the lowest up; a delta's levels are in the chain's order.
    """

    market_id: str
    height: int
    sequence: int
    ts_event: int
    """0 in a snapshot that was fetched rather than streamed."""
    ts_recv: int
    source: Source
    is_snapshot: bool
    bids: list[Level]
    asks: list[Level]


class Gap(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    The life of a hole in one market's data: ``open``, then ``closed`` once all of it is
    replayed. A hole that nobody can fill stays open, with its heights.
    """

    market_id: str
    gap_id: int
    """Counts the gaps of one market; an ``open`` and its ``closed`` share it."""
    state: Literal["open", "closed"]
    cause: Cause
    first: int
    """First height concerned."""
    last: int
    """Last height concerned; 0 while it is not known yet."""
    ts: int
    detail: str = ""


Event: TypeAlias = Book | Trades | Gap


class BookUpdate(msgspec.Struct, frozen=True, gc=False):
    """What one block changed in one market's book, as decoded; quantities are absolute."""

    market_id: str
    sequence: int
    bids: list[Level]
    asks: list[Level]


class Block(msgspec.Struct, frozen=True, gc=False):
    """
    One block as one subscription, or one lost block as the replay, tells it.

    Most blocks of a one-market subscription are empty; they are the proof that nothing
    was missed.
    """

    height: int
    ts_event: int
    trades: list[tuple[str, Trade]]
    """``(market_id, trade)`` in the chain's order."""
    updates: list[BookUpdate]
    has_books: bool = True
    """False where the source knows the trades only: the books may have changed unseen."""


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """A whole book as a query answered it; best levels first on neither side for sure."""

    market_id: str
    height: int
    """Height of the state that was read; 0 where the source does not say."""
    sequence: int
    bids: list[Level]
    asks: list[Level]


class Confirmed(msgspec.Struct, frozen=True):
    """The source accepted a subscription."""


class Rejected(msgspec.Struct, frozen=True):
    """The source refused a subscription, or ended one that had been running."""

    code: int
    reason: str
