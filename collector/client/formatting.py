"""Received events as text: a line for people, or a JSON object for programs."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from collector.client.received import ChainReplaced, Joined, Lost, Received, Unanswered
from collector.settings.wording import plural
from shards.protocol.events import (
    ZERO,
    Book,
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
from shards.protocol.text import printable

_SHOWN = 3
"""Levels per side, or trades, shown in a line."""
_encode_json = msgspec.json.Encoder().encode


def json_line(received: Received) -> str:
    """All fields by name; prices and quantities as exact texts, as on the wire."""
    fields = _by_name(received)
    return _encode_json({"kind": type(received.event).__name__.lower()} | fields).decode()


def text_line(received: Received) -> str:
    """Local time, channel, symbol, height and what happened, aligned."""
    event = received.event
    # Whatever the channel: the block's time where it has one, then ours.
    times = (getattr(event, name, 0) for name in ("ts_event", "ts_recv", "ts"))
    ts = next(filter(None, times), received.ts_sub)
    height = str(event.first) if isinstance(event, Gap) else str(getattr(event, "height", ""))
    words = f"{_clock(ts)}  {received.channel:<7}  {received.symbol:<16}  {height:>9}  "
    return printable(words + describe(event))


def describe(event: object) -> str:
    """Return a short description of an event."""
    match event:
        case Book():
            return _book(event)
        case Trades():
            fills = [f"{t.side} {trim(t.quantity)} @ {trim(t.price)}" for t in event.trades]
            return _some(fills)
        case Gap():
            return _gap(event)
        case Ticker():
            return f"#{event.sequence}  {_best(event)}"
        case Orders():
            return _some([_order(order) for order in event.orders])
        case Oracle():
            return _some([f"{price.type} {trim(price.price)}" for price in event.prices])
        case Pulse():
            lag_ms = (event.ts_recv - event.ts_event) / 1e6
            return f"{event.source}, {lag_ms:.0f} ms after its time"
        case Funding():
            return _funding(event)
        case Metadata():
            return (
                f"{event.status}, {event.type}, price tick {trim(event.price_tick)}, "
                f"quantity tick {trim(event.quantity_tick)}"
            )
        case Lost():
            many = "" if event.first == event.last else f" to {event.last}"
            return f"LOST {event.unit} {event.first}{many}: {event.reason}"
        case Joined():
            unmatched = f"; nothing matches {', '.join(event.unmatched)}" if event.unmatched else ""
            return (
                f"following {plural(event.topics, 'topic')}, complete through height {event.head}"
                f"{unmatched}"
            )
        case ChainReplaced():
            return (
                f"THE CHAIN WAS REPLACED after height {event.former_head}; everything starts over"
            )
        case Unanswered():
            return f"the aggregator has not answered for {event.silent_s:.0f} s; waiting for it"
    return type(event).__name__


def trim(number: str) -> str:
    """Strip a decimal text's trailing zeros."""
    return number.rstrip("0").rstrip(".") if "." in number else number


def _book(event: Book) -> str:
    if event.is_snapshot:
        sizes = f"snapshot, {len(event.bids)} bids, {len(event.asks)} asks"
        best = [f"{name} {_level(side[0])}" for name, side in _sides(event) if side]
        return f"#{event.sequence}  " + ", ".join([sizes, *best])
    changes = [_some([f"{name} {_level(row)}" for row in side]) for name, side in _sides(event)]
    return f"#{event.sequence}  " + ", ".join(filter(None, changes))


def _sides(event: Book) -> tuple[tuple[str, list[Level]], tuple[str, list[Level]]]:
    return ("bid", event.bids), ("ask", event.asks)


def _level(level: Level) -> str:
    price, quantity = level
    return f"{trim(price)} gone" if quantity == ZERO else f"{trim(quantity)} @ {trim(price)}"


def _gap(event: Gap) -> str:
    last = "" if event.last == event.first else f" to {event.last}" if event.last else " on"
    detail = f": {event.detail}" if event.detail else ""
    return f"{event.state} #{event.gap_id}, {event.cause}, height {event.first}{last}{detail}"


def _best(event: Ticker) -> str:
    bid = f"{trim(event.bid_quantity)} @ {trim(event.bid_price)}" if event.bid_price else "none"
    ask = f"{trim(event.ask_quantity)} @ {trim(event.ask_price)}" if event.ask_price else "none"
    return f"bid {bid}, ask {ask}"


def _order(order: Order) -> str:
    return f"{order.status} {order.side} {trim(order.fillable)} @ {trim(order.price)}"


def _funding(event: Funding) -> str:
    due = datetime.fromtimestamp(event.next_funding_timestamp, tz=UTC).astimezone()
    mark = f", mark price {trim(event.mark_price)}" if event.mark_price else ""
    return f"cumulative {trim(event.cumulative_funding)}, next at {due:%H:%M:%S}{mark}"


def _some(texts: list[str]) -> str:
    rest = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f", {rest} more" if rest > 0 else "")


def _clock(ts: int) -> str:
    local = datetime.fromtimestamp(ts / 1e9, tz=UTC).astimezone()
    return local.strftime("%H:%M:%S.") + f"{local.microsecond // 1000:03}"


def _by_name(value: Any) -> Any:
    """Convert Structs to dicts, including array-like ones."""
    if isinstance(value, msgspec.Struct):
        return {name: _by_name(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, list | tuple):
        return [_by_name(item) for item in value]
    return value
