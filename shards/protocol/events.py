"""
Events: decoded, normalised, immutable facts. Their field order is the wire's.

Prices, quantities and amounts have one representation everywhere: the exact decimal
text that the chain prints, always with 18 decimals (``"10.013000000000000000"``).
They are never binary floats and need no conversion on the fast path. Two texts are equal
exactly when their numbers are. Positive numbers sort by ``(len(text), text)``.

Instants are int nanoseconds since the Unix epoch: ``ts_event`` is the block's time from
its header (milliseconds on the chain stream), ``ts_recv`` is when the payload left our socket.

Fields may be appended, with a default; never reordered (docs/wire-format.md).
"""

from typing import Final, Literal, TypeAlias

import msgspec

Level: TypeAlias = tuple[str, str]
"""One ``(price, quantity)`` row of a book side. In a delta the quantity is the new
absolute one, and ZERO removes the level."""

ZERO = "0.000000000000000000"

Source: TypeAlias = str
"""Origin of an event: the adapter's name, or ``replay`` (a lost block, from the chain's record),
or the name that an adapter gives to facts which it fetches itself (`Adapter.replays`)."""
REPLAY: Final = "replay"
"""The source of facts from a block that was fetched afterwards."""

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
    One order's fill in one block. Both sides of a match are reported, each as a separate trade:
    to compute volume, count only the buys.
    """

    trade_id: str
    """``{height}_{n}``; n numbers all trades of the block over all markets, from 0."""
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
    """Derivatives only, else empty: the change in the position's margin."""
    payout: str = ""
    """Derivatives only, else empty."""


_NUMBERS: Final = 1 << 63


def number_of(trade: Trade) -> int:
    """
    Return a trade's n: its index among all trades of the block, over all markets.

    Raises:
        ValueError: If its id does not end in ``_`` and a number; `number_if_any` is for those.

    """
    return int(trade.trade_id.rpartition("_")[2])


def number_if_any(trade: Trade) -> int | None:
    """Return a trade's n; None if its exchange does not number the trades of a block."""
    try:
        number = int(trade.trade_id.rpartition("_")[2])
    except ValueError:
        return None
    return number if 0 <= number < _NUMBERS else None


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
    A change to one market's book, or the whole book if ``is_snapshot``.

    The chain changes a book at most once per block; ``sequence`` counts these changes per market
    and grows by exactly one. A snapshot's bids are sorted from the highest price down, its asks
    from the lowest up; a delta's levels are in the chain's order.
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
    A gap in one market's data: ``open``, then ``closed`` once everything in it has been replayed.
    A gap that cannot be filled stays open and names its heights.
    """

    market_id: str
    gap_id: int
    """Unique per market; an ``open`` and its ``closed`` share it."""
    state: Literal["open", "closed"]
    cause: Cause
    first: int
    """First affected height."""
    last: int
    """Last affected height; 0 while it is unknown."""
    ts: int
    detail: str = ""


class Ticker(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    Best bid and ask of one market; published only when one of the four texts changes. A side
    without orders has empty texts.
    """

    market_id: str
    height: int
    sequence: int
    """Sequence of the book that it was taken from."""
    ts_event: int
    """0 if the book was fetched rather than streamed."""
    ts_recv: int
    source: Source
    bid_price: str
    bid_quantity: str
    ask_price: str
    ask_quantity: str


class Price(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One oracle price."""

    type: str
    """The oracle type, as the chain names it: ``pricefeed``, ``pyth``, ``provider``, ``stork``, …"""
    price: str


class Oracle(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All prices of one oracle symbol in one block; the last one is valid."""

    symbol: str
    """As the oracle spells it; for pyth a hexadecimal feed id."""
    height: int
    ts_event: int
    ts_recv: int
    source: Source
    prices: list[Price]


class Pulse(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One block of the chain: that it exists, and when we received it."""

    height: int
    ts_event: int
    ts_recv: int
    """When the process that watches the chain received the first payload that named it."""
    source: Source


class Order(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The change of one resting order in one block; fills are reported only as trades."""

    order_hash: str
    status: str
    """``booked``: new, nothing filled. ``matched``: new, and partly filled in this block.
    ``cancelled``: removed; ``fillable`` is the quantity that was left."""
    side: Side
    order_type: str
    """``BUY``, ``SELL``, ``BUY_PO`` (post only), ``STOP_SELL``, …"""
    price: str
    quantity: str
    fillable: str
    """Quantity resting in the book; for ``cancelled``, the quantity removed."""
    subaccount_id: str
    fee_recipient: str
    cid: str = ""
    trigger_price: str = ""
    """Conditional orders only (they rest outside the book), else empty."""
    margin: str = ""
    """Derivatives only, else empty."""


class Orders(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All order updates of one market in one block: cancellations first, then by hash."""

    market_id: str
    height: int
    ts_event: int
    ts_recv: int
    source: Source
    orders: list[Order]


class Funding(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The funding of one perpetual market, from a query; published when it changes."""

    market_id: str
    height: int
    """The state after this block was read."""
    ts_event: int
    """0: the query does not return the block's time."""
    ts_recv: int
    source: Source
    cumulative_funding: str
    """Quote units paid per contract since the listing; grows when funding is applied."""
    cumulative_price: str
    """Of the current interval: the time-weighted premium, from which the rate is computed."""
    last_timestamp: int
    """Unix seconds: when ``cumulative_price`` was last updated."""
    next_funding_timestamp: int
    """Unix seconds."""
    funding_interval: int
    """Seconds."""
    hourly_rate_cap: str
    hourly_interest_rate: str
    mark_price: str
    """The oracle's price; empty if there is none."""


class Metadata(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How the chain lists one market; published at the start and after each change."""

    market_id: str
    ts: int
    """When the collector learned of it."""
    ticker: str
    symbol: str
    type: str
    """``spot``, ``derivative`` or ``binary``."""
    status: str
    """``Active``, ``Paused``, …, or ``Gone`` if it is no longer listed."""
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
    """Derivatives only, else empty, like the two below."""
    oracle_base: str
    oracle_quote: str


class Divergence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Two nodes said different things about one market's block (redundancy)."""

    market_id: str
    height: int
    ts_event: int
    """As the first of them states it."""
    ts_recv: int
    """When the difference was established, not when the block was received."""
    source: Source
    first: str
    """The endpoint whose copy came first and was published."""
    second: str
    differs: list[str]
    """``time``, ``trades``, ``book``, ``orders``, ``prices``."""
    wrong: list[str]
    """The endpoints that the chain's record contradicts; empty if it does not decide. If ``first``
    is among them, what was published of this block is wrong."""


Event: TypeAlias = (
    Book | Trades | Gap | Ticker | Oracle | Pulse | Orders | Funding | Metadata | Divergence
)
"""Everything that a frame can carry."""
OtherEvent: TypeAlias = Ticker | Oracle | Pulse | Orders | Funding | Divergence
"""Optional events; their channel row alone decides how they become frames (channels.py)."""


class BookUpdate(msgspec.Struct, frozen=True, gc=False):
    """One block's changes to one market's book, as decoded; quantities are absolute."""

    market_id: str
    sequence: int
    bids: list[Level]
    asks: list[Level]


class OptionalEvents(msgspec.Struct, frozen=True, gc=False):
    """A block's optional events, beyond books and trades, if they were chosen."""

    orders: list[tuple[str, Order]] = []
    """``(market_id, order)``, as `in_order` sorts them."""
    prices: list[tuple[str, Price]] = []
    """``(symbol, price)`` of the oracles, in the chain's order for each symbol."""


_PLACES = {"cancelled": 0, "matched": 1, "booked": 2}


def in_order(of_market: tuple[str, Order]) -> tuple[int, str]:
    """
    Sort order updates: cancellations before new orders, then by hash.

    The node sends them in varying order.
    """
    order = of_market[1]
    return _PLACES.get(order.status, 3), order.order_hash


class Block(msgspec.Struct, frozen=True, gc=False):
    """
    One block, as one subscription or one replayed block shows it.

    Most blocks of a one-market subscription are empty; they prove that nothing was missed.
    """

    height: int
    ts_event: int
    trades: list[tuple[str, Trade]]
    """``(market_id, trade)`` in the chain's order."""
    updates: list[BookUpdate]
    has_books: bool = True
    """False if the source has only the trades: the books may have changed unseen."""
    extras: OptionalEvents | None = None


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """A whole book from a query; the order of its levels is not guaranteed."""

    market_id: str
    height: int
    """Height of the state that was read; 0 if the source does not return it."""
    sequence: int
    bids: list[Level]
    asks: list[Level]


class Confirmed(msgspec.Struct, frozen=True):
    """The source accepted a subscription."""


class Rejected(msgspec.Struct, frozen=True):
    """The source refused a subscription, or ended one that had been running."""

    code: int
    reason: str
