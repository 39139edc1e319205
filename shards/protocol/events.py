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

Source: TypeAlias = str
"""Where an event is from: the adapter's name, or how else it was had. ``replay``: of a block that was lost, from the chain's record. ``indexer-replay``: trades
that the indexer's streams did not bring, from its query."""

Side = Literal["buy", "sell"]
Cause = Literal[
    "mute",
    "disconnect",
    "seq",
    "height",
    "crash",
    "drop",
    "slow-subscriber",
    "halt",
    "garbage",
    "removed",
    "chain_changed",
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


class Ticker(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    Best bid and ask of one market after a change of its book; told only when one of the
    four texts changed. A side without any order has empty texts.
    """

    market_id: str
    height: int
    sequence: int
    """Of the book that it was read from."""
    ts_event: int
    """0 where the book was fetched rather than streamed."""
    ts_recv: int
    source: Source
    bid_price: str
    bid_quantity: str
    ask_price: str
    ask_quantity: str


class Price(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one oracle said."""

    type: str
    """The oracle, as the chain names it: ``pricefeed``, ``pyth``, ``provider``, ``stork``, …"""
    price: str


class Oracle(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All prices that one oracle symbol was given in one block; the last one stands."""

    symbol: str
    """As the oracle spells it; of pyth a hexadecimal feed id."""
    height: int
    ts_event: int
    ts_recv: int
    source: Source
    prices: list[Price]


class Pulse(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One block of the chain: that it is there, and when it came to us."""

    height: int
    ts_event: int
    ts_recv: int
    """The first payload that told of it, to the process that watches the chain."""
    source: Source


class Order(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What became of one resting order in one block; fills are told by trades alone."""

    order_hash: str
    status: str
    """``booked``: new, nothing filled. ``matched``: new, and partly filled in this block.
    ``cancelled``: taken out; ``fillable`` is what was left of it."""
    side: Side
    order_type: str
    """``BUY``, ``SELL``, ``BUY_PO`` (post only), ``STOP_SELL``, …"""
    price: str
    quantity: str
    fillable: str
    """What rests in the book; of a ``cancelled`` one what no longer does."""
    subaccount_id: str
    fee_recipient: str
    cid: str = ""
    trigger_price: str = ""
    """Conditional orders only, which rest outside the book; else empty."""
    margin: str = ""
    """Derivatives only, else empty."""


class Orders(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All order updates of one market in one block: cancelled ones first, then by hash."""

    market_id: str
    height: int
    ts_event: int
    ts_recv: int
    source: Source
    orders: list[Order]


class Funding(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The funding of one perpetual market, as a query answered it; told when it changed."""

    market_id: str
    height: int
    """The state that was read is that after this block."""
    ts_event: int
    """0: the query does not say the block's time."""
    ts_recv: int
    source: Source
    cumulative_funding: str
    """Quote units paid per contract since the listing; changes when funding is applied."""
    cumulative_price: str
    """Of the running interval: premium weighted by time, from which the rate comes."""
    last_timestamp: int
    """Seconds: when ``cumulative_price`` was last brought up to date."""
    next_funding_timestamp: int
    """Seconds."""
    funding_interval: int
    """Seconds."""
    hourly_rate_cap: str
    hourly_interest_rate: str
    mark_price: str
    """What the oracle says; empty where it says nothing."""


class Metadata(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How the chain lists one market; told at the start and whenever something changed."""

    market_id: str
    ts: int
    """When the collector learnt of it."""
    ticker: str
    symbol: str
    type: str
    """``spot``, ``derivative`` or ``binary``."""
    status: str
    """``Active``, ``Paused``, …, or ``Gone`` where it is not listed any more."""
    base_denom: str
    """Spot only, else empty."""
    quote_denom: str
    base_decimals: int
    quote_decimals: int
    price_tick: str
    quantity_tick: str
    min_notional: str
    maker_fee_rate: str
    taker_fee_rate: str
    oracle_type: str
    """Derivatives only, else empty, as the two below."""
    oracle_base: str
    oracle_quote: str


Event: TypeAlias = Book | Trades | Gap | Ticker | Oracle | Pulse | Orders | Funding | Metadata
"""Everything that a frame can carry."""
OtherEvent: TypeAlias = Ticker | Oracle | Pulse | Orders | Funding
"""What is collected on request, and made into frames by its row alone (channels.py)."""


class BookUpdate(msgspec.Struct, frozen=True, gc=False):
    """What one block changed in one market's book, as decoded; quantities are absolute."""

    market_id: str
    sequence: int
    bids: list[Level]
    asks: list[Level]


class Extras(msgspec.Struct, frozen=True, gc=False):
    """What a block says beyond books and trades, where that was asked for."""

    orders: list[tuple[str, Order]] = []
    """``(market_id, order)``, as `in_order` sorts them."""
    prices: list[tuple[str, Price]] = []
    """``(symbol, price)`` of the oracles, in the chain's order for each symbol."""


_PLACES = {"cancelled": 0, "matched": 1, "booked": 2}


def in_order(of_market: tuple[str, Order]) -> tuple[int, str]:
    """
    Sort order updates: a cancellation before what is new, equal ones by hash.

    The node tells them in no order, each time in another.
    """
    order = of_market[1]
    return _PLACES.get(order.status, 3), order.order_hash


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
    extras: Extras | None = None


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
