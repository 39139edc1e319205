"""
The tables: one per channel, with their columns. Pure.

A column is either of *fact*, what the exchange says, equal for every reader; or
*local*, how and when it came to this one. Rows are tuples in the order of the columns.
"""

from typing import Any, Final, Literal, NamedTuple, TypeAlias

Type: TypeAlias = Literal["text", "int", "time", "arrival", "decimal", "bool", "levels", "ranges"]
"""An ``arrival`` is an instant by our own clock, stored to the microsecond; rows have nanoseconds."""

Row: TypeAlias = tuple[Any, ...]


class Column(NamedTuple):
    """One column: its name, how it is stored, whether it is of fact."""

    name: str
    type: Type
    is_fact: bool = True


class Table(NamedTuple):
    """One channel's table."""

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    """The columns that identify a row, all facts."""
    is_sampled: bool = False
    """Whether rows depend on the time of the query, so that two archives may differ."""

    def place(self, name: str) -> int:
        """Return the place of a column."""
        return next(i for i, column in enumerate(self.columns) if column.name == name)


def _facts(spec: str) -> tuple[Column, ...]:
    return tuple(Column(*part.split(":")) for part in spec.split())  # type: ignore[arg-type]


def _local(spec: str) -> tuple[Column, ...]:
    return tuple(Column(c.name, c.type, False) for c in _facts(spec))


_WAY: Final = _local("ts_recv:arrival ts_pub:arrival source:text shard:int")
_MARKET: Final = (Column("market_id", "text"), Column("market", "text", False))
_BOOK: Final = (
    *_MARKET,
    *_facts(
        "height:int sequence:int ts_event:time is_snapshot:bool bids:levels asks:levels",
    ),
)

TABLES: Final[dict[str, Table]] = {
    "book": Table((*_BOOK, *_WAY), ("market_id", "sequence")),
    "keyframe": Table((*_BOOK, *_WAY, *_local("reason:text")), ("market_id", "sequence")),
    "trades": Table(
        (
            *_MARKET,
            *_facts(
                "height:int n:int trade_id:text ts_event:time side:text price:decimal "
                "quantity:decimal notional:decimal fee:decimal execution_type:text "
                "order_hash:text subaccount_id:text fee_recipient:text cid:text "
                "margin:decimal payout:decimal"
            ),
            *_WAY,
        ),
        ("height", "n", "trade_id"),
    ),
    "orders": Table(
        (
            *_MARKET,
            *_facts(
                "height:int n:int ts_event:time order_hash:text status:text side:text "
                "order_type:text price:decimal quantity:decimal fillable:decimal "
                "subaccount_id:text fee_recipient:text cid:text trigger_price:decimal "
                "margin:decimal"
            ),
            *_WAY,
        ),
        ("market_id", "height", "n"),
    ),
    "ticker": Table(
        (
            *_MARKET,
            *_facts(
                "height:int sequence:int ts_event:time bid_price:decimal bid_quantity:decimal "
                "ask_price:decimal ask_quantity:decimal"
            ),
            *_WAY,
        ),
        ("market_id", "sequence"),
        # Told again whenever a book is fetched.
        is_sampled=True,
    ),
    "oracle": Table(
        (*_facts("symbol:text height:int n:int ts_event:time type:text price:decimal"), *_WAY),
        ("symbol", "height", "n"),
    ),
    "funding": Table(
        (
            *_MARKET,
            *_facts(
                "height:int cumulative_funding:decimal cumulative_price:decimal "
                "last_timestamp:int next_funding_timestamp:int funding_interval:int "
                "hourly_rate_cap:decimal hourly_interest_rate:decimal mark_price:decimal"
            ),
            *_WAY,
        ),
        ("market_id", "height"),
        is_sampled=True,
    ),
    "markets": Table(
        (
            *_MARKET,
            *_facts(
                "ts:time ticker:text type:text status:text base_denom:text quote_denom:text "
                "base_decimals:int quote_decimals:int price_tick:decimal quantity_tick:decimal "
                "min_notional:decimal maker_fee_rate:decimal taker_fee_rate:decimal "
                "oracle_type:text oracle_base:text oracle_quote:text"
            ),
        ),
        ("market_id", "ts"),
        is_sampled=True,
    ),
    "blocks": Table((*_facts("height:int ts_event:time"), *_WAY), ("height",)),
    "gap": Table(
        (
            *_MARKET,
            *_facts(
                "gap_id:int state:text cause:text first:int last:int ts:time detail:text",
            ),
        ),
        ("market_id", "gap_id", "state", "first", "last"),
        is_sampled=True,
    ),
    "divergence": Table(
        (
            *_MARKET,
            *_facts("height:int ts_event:time first:text second:text differs:text wrong:text"),
            *_WAY,
        ),
        ("market_id", "height", "first", "second"),
        is_sampled=True,
    ),
    "coverage": Table(
        (
            *_MARKET,
            *_local(
                "first_height:int last_height:int due:int missing:int missing_ranges:ranges "
                "first_sequence:int last_sequence:int book_updates:int sequences_missing:int "
                "trades:int replayed_updates:int replayed_trades:int gaps:int provable:bool "
                "source:text"
            ),
        ),
        ("market_id",),
        is_sampled=True,
    ),
}
"""The table of each channel, and of the keyframes and the coverage beside them."""
