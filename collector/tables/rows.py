"""
Make rows out of events, in the order of the table's columns (`schema.py`). Pure.

Amounts are the chain's texts here, empty or null where there is none.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, Protocol

from collector.tables.schema import Row, Table
from shards.adapters import registry
from shards.protocol.events import (
    Book,
    Divergence,
    Event,
    Funding,
    Gap,
    Level,
    Metadata,
    Oracle,
    Orders,
    Pulse,
    Ticker,
    Trade,
    Trades,
    number_if_any,
)

_SCALE: Final = 10**18
_DECIMALS: Final = 18
_is_amount: Final = re.compile(r"-?[0-9]{1,100}\.[0-9]{18}").fullmatch
"""Whether a foreign text is spelled as an amount."""


class Arrival(Protocol):
    """What a row takes from its frame's header."""

    @property
    def ts_pub(self) -> int:
        """When the aggregator published it, ns since the epoch; 0 if it was fetched."""

    @property
    def shard(self) -> int:
        """The number of the shard that sent it."""


def canonical(levels: Sequence[Level], *, highest_first: bool) -> list[Level]:
    """Order levels by price, so that equal changes are equal lists (shards/protocol/events.py)."""
    if len(levels) < 2:
        return list(levels)
    return sorted(levels, key=lambda level: (len(level[0]), level[0]), reverse=highest_first)


def notional_of(price: str, quantity: str) -> str | None:
    """Return price times quantity with 18 decimals; None where it would need more, or one is no amount."""
    if not (_is_amount(price) and _is_amount(quantity)):
        return None
    product = int(price.replace(".", "", 1)) * int(quantity.replace(".", "", 1))
    whole, rest = divmod(product, _SCALE)
    if rest:
        return None
    sign, digits = ("-", str(-whole)) if whole < 0 else ("", str(whole))
    digits = digits.rjust(_DECIMALS + 1, "0")
    return f"{sign}{digits[:-_DECIMALS]}.{digits[-_DECIMALS:]}"


def book_row(event: Book, symbol: str, arrival: Arrival) -> Row:
    """Make the row of one change of a book."""
    return (
        event.market_id,
        symbol,
        event.height or None,
        event.sequence,
        event.ts_event or None,
        event.is_snapshot,
        canonical(event.bids, highest_first=True),
        canonical(event.asks, highest_first=False),
        *_way(event, arrival),
    )


def _way(event: Any, arrival: Arrival) -> Row:
    return event.ts_recv or None, arrival.ts_pub or None, event.source, arrival.shard


def _trade_rows(event: Trades, symbol: str, arrival: Arrival) -> list[Row]:
    way = _way(event, arrival)
    return [
        (
            event.market_id,
            symbol,
            event.height,
            number_if_any(trade),
            trade.trade_id,
            event.ts_event or None,
            trade.side,
            trade.price,
            trade.quantity,
            notional_of(trade.price, trade.quantity),
            trade.fee,
            *_of_order(trade),
            *way,
        )
        for trade in event.trades
    ]


def _of_order(trade: Trade) -> Row:
    return (
        trade.execution_type,
        trade.order_hash,
        trade.subaccount_id,
        trade.fee_recipient,
        trade.cid,
        trade.margin,
        trade.payout,
    )


def _order_rows(event: Orders, symbol: str, arrival: Arrival) -> list[Row]:
    way = _way(event, arrival)
    return [
        (
            event.market_id,
            symbol,
            event.height,
            n,
            event.ts_event or None,
            order.order_hash,
            order.status,
            order.side,
            order.order_type,
            order.price,
            order.quantity,
            order.fillable,
            order.subaccount_id,
            order.fee_recipient,
            order.cid,
            order.trigger_price,
            order.margin,
            *way,
        )
        for n, order in enumerate(event.orders)
    ]


def _oracle_rows(event: Oracle, arrival: Arrival) -> list[Row]:
    way = _way(event, arrival)
    return [
        (event.symbol, event.height, n, event.ts_event or None, told.type, told.price, *way)
        for n, told in enumerate(event.prices)
    ]


def rows_of(event: Event, symbol: str, arrival: Arrival) -> list[Row]:
    """Make the rows of one event; `symbol` is its topic's."""
    match event:
        case Book():
            return [book_row(event, symbol, arrival)]
        case Trades():
            return _trade_rows(event, symbol, arrival)
        case Orders():
            return _order_rows(event, symbol, arrival)
        case Oracle():
            return _oracle_rows(event, arrival)
        case Pulse():
            return [(event.height, event.ts_event or None, *_way(event, arrival))]
        case Ticker():
            return [
                (
                    event.market_id,
                    symbol,
                    event.height or None,
                    event.sequence,
                    event.ts_event or None,
                    event.bid_price,
                    event.bid_quantity,
                    event.ask_price,
                    event.ask_quantity,
                    *_way(event, arrival),
                )
            ]
        case Divergence():
            where = (event.market_id, symbol, event.height, event.ts_event or None)
            said = (event.first, event.second, ", ".join(event.differs), ", ".join(event.wrong))
            return [(*where, *said, *_way(event, arrival))]
        case Funding() | Metadata() | Gap():
            return [_sampled_row(event, symbol, arrival)]


def _sampled_row(event: Funding | Metadata | Gap, symbol: str, arrival: Arrival) -> Row:
    """Build the row of a sampled event."""
    match event:
        case Funding():
            return (
                event.market_id,
                symbol,
                event.height,
                event.cumulative_funding,
                event.cumulative_price,
                event.last_timestamp,
                event.next_funding_timestamp,
                event.funding_interval,
                event.hourly_rate_cap,
                event.hourly_interest_rate,
                event.mark_price,
                *_way(event, arrival),
            )
        case Gap():
            where = (event.gap_id, event.state, event.cause, event.first, event.last)
            return (event.market_id, symbol, *where, event.ts, event.detail)
        case Metadata():
            return (
                event.market_id,
                symbol,
                event.ts,
                event.ticker,
                event.type,
                event.status,
                event.base_denom,
                event.quote_denom,
                event.base_decimals,
                event.quote_decimals,
                event.price_tick,
                event.quantity_tick,
                event.min_notional,
                event.maker_fee_rate,
                event.taker_fee_rate,
                event.oracle_type,
                event.oracle_base,
                event.oracle_quote,
            )


def dedupe(table: Table, rows: Sequence[Row]) -> list[Row]:
    """Keep one row for each key, a live row rather than a replayed one, in the key's order."""
    key = [table.place(name) for name in table.key]
    names = [column.name for column in table.columns]
    source = names.index("source") if "source" in names else -1
    replays = registry.replays()
    found: dict[Any, Row] = {}
    for row in rows:
        at = tuple(row[i] for i in key)
        known = found.get(at)
        if known is None or (
            source >= 0 and known[source] in replays and row[source] not in replays
        ):
            found[at] = row
    return [found[at] for at in sorted(found, key=_sortable)]


def _sortable(key: tuple[Any, ...]) -> tuple[Any, ...]:
    # As Arrow sorts: missing values come last.
    return tuple((value is None, value) for value in key)
