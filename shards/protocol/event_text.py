"""
What an event says, as a short text for people: one function for each channel's row (channels.py).

Pure: times are shown in the local time zone.
"""

from datetime import UTC, datetime
from typing import Final

from shards.protocol.events import (
    ZERO,
    Book,
    Divergence,
    Funding,
    Gap,
    Level,
    Metadata,
    Oracle,
    Order,
    Orders,
    Pulse,
    Ticker,
    Trades,
)

_SHOWN: Final = 3
"""Levels per side, or trades, shown in a line."""


def trades(event: Trades) -> str:
    """Describe a block's trades of one market."""
    return _first([f"{t.side} {trim(t.quantity)} @ {trim(t.price)}" for t in event.trades])


def ticker(event: Ticker) -> str:
    """Describe the best bid and ask."""
    return f"#{event.sequence}  {_best(event)}"


def divergence(event: Divergence) -> str:
    """Describe what two nodes say differently, and which one is wrong."""
    wrong = " and ".join(event.wrong)
    verdict = f"the chain's record contradicts {wrong}" if wrong else "undecided"
    return f"{event.first} and {event.second} differ in {', '.join(event.differs)}; {verdict}"


def orders(event: Orders) -> str:
    """Describe a block's order updates of one market."""
    return _first([_order(order) for order in event.orders])


def oracle(event: Oracle) -> str:
    """Describe an oracle's prices of one block."""
    return _first([f"{price.type} {trim(price.price)}" for price in event.prices])


def block(event: Pulse) -> str:
    """Describe the receipt of a block."""
    lag_ms = (event.ts_recv - event.ts_event) / 1e6
    return f"{event.source}, {lag_ms:.0f} ms after its time"


def metadata(event: Metadata) -> str:
    """Describe a market as it is listed."""
    return (
        f"{event.status}, {event.type}, price tick {trim(event.price_tick)}, "
        f"quantity tick {trim(event.quantity_tick)}"
    )


def trim(number: str) -> str:
    """Strip a decimal text's trailing zeros."""
    return number.rstrip("0").rstrip(".") if "." in number else number


def book(event: Book) -> str:
    """Describe a snapshot, or the changed levels."""
    if event.is_snapshot:
        sizes = f"snapshot, {len(event.bids)} bids, {len(event.asks)} asks"
        best = [f"{name} {_level(side[0])}" for name, side in _sides(event) if side]
        return f"#{event.sequence}  " + ", ".join([sizes, *best])
    changes = [_first([f"{name} {_level(row)}" for row in side]) for name, side in _sides(event)]
    return f"#{event.sequence}  " + ", ".join(filter(None, changes))


def _sides(event: Book) -> tuple[tuple[str, list[Level]], tuple[str, list[Level]]]:
    return ("bid", event.bids), ("ask", event.asks)


def _level(level: Level) -> str:
    price, quantity = level
    return f"{trim(price)} gone" if quantity == ZERO else f"{trim(quantity)} @ {trim(price)}"


def gap(event: Gap) -> str:
    """Describe a gap: its state, cause and heights."""
    last = "" if event.last == event.first else f" to {event.last}" if event.last else " on"
    detail = f": {event.detail}" if event.detail else ""
    return f"{event.state} #{event.gap_id}, {event.cause}, height {event.first}{last}{detail}"


def _best(event: Ticker) -> str:
    bid = f"{trim(event.bid_quantity)} @ {trim(event.bid_price)}" if event.bid_price else "none"
    ask = f"{trim(event.ask_quantity)} @ {trim(event.ask_price)}" if event.ask_price else "none"
    return f"bid {bid}, ask {ask}"


def _order(order: Order) -> str:
    return f"{order.status} {order.side} {trim(order.fillable)} @ {trim(order.price)}"


def funding(event: Funding) -> str:
    """Describe a perpetual's funding."""
    due = datetime.fromtimestamp(event.next_funding_timestamp, tz=UTC).astimezone()
    mark = f", mark price {trim(event.mark_price)}" if event.mark_price else ""
    return f"cumulative {trim(event.cumulative_funding)}, next at {due:%H:%M:%S}{mark}"


def _first(texts: list[str]) -> str:
    rest = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f", {rest} more" if rest > 0 else "")
