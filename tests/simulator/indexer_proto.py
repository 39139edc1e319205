"""
What the indexer's streams send: changed levels and single trades, in token units.

Spot and derivative messages have the same tags, but for the trades themselves.
"""

from collections.abc import Iterator

from shards.protocol.events import ZERO, BookUpdate, Level, Trade
from tests.simulator.amounts import in_token_units
from tests.simulator.markets import SimMarket
from tests.simulator.protowire import number, string, submessage, zigzag

MAKER_TYPES = ("LimitFill", "LimitMatchRestingOrder")


def answered_ms(time_ms: int) -> int:
    """Return a response's own time: a whole second, and later than what it tells."""
    return (time_ms // 1_000 + 1) * 1_000


def camel(execution_type: str) -> str:
    """Spell ``LimitFill`` as the indexer does, ``limitFill``."""
    return execution_type[0].lower() + execution_type[1:]


def execution_side(trade: Trade) -> str:
    """Say ``maker`` or ``taker``."""
    return "maker" if trade.execution_type in MAKER_TYPES else "taker"


class Levels:
    """Book changes in token units, made once per shared change but for their time."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], tuple[BookUpdate, list[tuple[int, bytes]]]] = {}

    def __call__(self, market: SimMarket, update: BookUpdate, time_ms: int) -> bytes:
        """Return the fields ``buys`` and ``sells`` of ``OrderbookLevelUpdates``."""
        key = id(update.bids), id(update.asks)
        known = self._made.get(key)
        if known is None:
            made = [*_sides(3, market, update.bids), *_sides(4, market, update.asks)]
            known = self._made[key] = update, made
        time = zigzag(4, time_ms)
        return b"".join(submessage(tag, level + time) for tag, level in known[1])


def _sides(tag: int, market: SimMarket, levels: list[Level]) -> Iterator[tuple[int, bytes]]:
    for price, quantity in levels:
        yield (
            tag,
            string(1, in_token_units(price, market.price_shift))
            + string(2, in_token_units(quantity, market.quantity_shift))
            + number(3, quantity != ZERO),
        )


def orderbook_update(market: SimMarket, update: BookUpdate, time_ms: int, levels: Levels) -> bytes:
    """Write a ``StreamOrderbookUpdateResponse``."""
    content = (
        string(1, market.market_id)
        + number(2, update.sequence)
        + levels(market, update, time_ms)
        + zigzag(5, time_ms)
    )
    return (
        submessage(1, content)
        + string(2, "update")
        + zigzag(3, answered_ms(time_ms))
        + string(4, market.market_id)
    )


def trade_response(market: SimMarket, trade: Trade, time_ms: int) -> bytes:
    """Write a ``StreamTradesV2Response`` of the market's service."""
    content = (spot_trade if market.is_spot else derivative_trade)(market, trade, time_ms)
    return submessage(1, content) + string(2, "insert") + zigzag(3, answered_ms(time_ms))


def _identity(market: SimMarket, trade: Trade) -> bytes:
    return (
        string(1, trade.order_hash)
        + string(2, trade.subaccount_id)
        + string(3, market.market_id)
        + string(4, camel(trade.execution_type))
    )


def spot_trade(market: SimMarket, trade: Trade, time_ms: int) -> bytes:
    """Write the indexer's ``SpotTrade``."""
    level = (
        string(1, in_token_units(trade.price, market.price_shift))
        + string(2, in_token_units(trade.quantity, market.quantity_shift))
        + zigzag(3, time_ms)
    )
    return b"".join(
        (
            _identity(market, trade),
            string(5, trade.side),
            submessage(6, level),
            string(7, in_token_units(trade.fee, market.quote_decimals)),
            zigzag(8, time_ms),
            string(9, trade.fee_recipient),
            string(10, trade.trade_id),
            string(11, execution_side(trade)),
            string(12, trade.cid),
        )
    )


def derivative_trade(market: SimMarket, trade: Trade, time_ms: int) -> bytes:
    """Write the indexer's ``DerivativeTrade``; binary options have it too."""
    quote = market.quote_decimals
    delta = (
        string(1, trade.side)
        + string(2, in_token_units(trade.price, market.price_shift))
        + string(3, in_token_units(trade.quantity, market.quantity_shift))
        + string(4, in_token_units(trade.margin, quote))
    )
    return b"".join(
        (
            _identity(market, trade),
            submessage(6, delta),
            string(7, in_token_units(trade.payout, quote)),
            string(8, in_token_units(trade.fee, quote)),
            zigzag(9, time_ms),
            string(10, trade.fee_recipient),
            string(11, trade.trade_id),
            string(12, execution_side(trade)),
            string(13, trade.cid),
            string(14, "0"),
        )
    )
