"""
Decode the chain's gRPC messages: the stream, and order books from queries.

On this wire every amount is the integer text of the value times 10^18; ours is the decimal text
that the chain prints elsewhere (events.py).
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from shards.adapters.injective_chain import order_fields
from shards.adapters.injective_chain.amounts import amount_in
from shards.protocol.errors import DecodeError
from shards.protocol.events import (
    Block,
    BookUpdate,
    Funding,
    Level,
    OptionalEvents,
    Order,
    Price,
    Snapshot,
    Trade,
    in_order,
    number_of,
)
from shards.protocol.settings import Market

_REMEMBERED: Final = 10_000
"""Cached texts: some hundred prices per market of a shard, a megabyte or two."""


def decimal_text(scaled: str) -> str:
    """
    Turn ``"10010000000000000000"`` into ``"10.010000000000000000"``, exactly.

    An empty text is an absent protobuf field, so it is zero.
    """
    if scaled.startswith("-"):
        return "-" + decimal_text(scaled[1:])
    digits = scaled.rjust(19, "0")
    return f"{digits[:-18]}.{digits[-18:]}"


class _Texts(dict[str, str]):
    """Cache from scaled to decimal texts: prices repeat, and so does zero."""

    def __missing__(self, scaled: str) -> str:
        if len(self) >= _REMEMBERED:
            self.clear()
        text = self[scaled] = decimal_text(scaled)
        return text


_text: Final = _Texts()


def snapshot(market_id: str, height: int, response: Any) -> Snapshot:
    """Decode a ``QuerySpotOrderbookResponse`` or ``QueryDerivativeOrderbookResponse``."""
    return Snapshot(
        market_id,
        height,
        response.seq,
        _levels(response.buys_price_level),
        _levels(response.sells_price_level),
    )


def funding(endpoint: str, response: Any, height: int, ts_recv: int) -> list[Funding]:
    """
    Decode the perpetual markets of a ``QueryDerivativeMarketsResponse``.

    Raises:
        SourceError: If an amount is none.

    """

    def amount(name: str, text: str) -> str:
        return decimal_text(amount_in(endpoint, name, text))

    return [
        Funding(
            full.market.market_id,
            height,
            0,
            ts_recv,
            "query",
            amount("cumulative_funding", full.perpetual_info.funding_info.cumulative_funding),
            amount("cumulative_price", full.perpetual_info.funding_info.cumulative_price),
            full.perpetual_info.funding_info.last_timestamp,
            full.perpetual_info.market_info.next_funding_timestamp,
            full.perpetual_info.market_info.funding_interval,
            amount("rate cap", full.perpetual_info.market_info.hourly_funding_rate_cap),
            amount("interest rate", full.perpetual_info.market_info.hourly_interest_rate),
            amount("mark_price", full.mark_price) if full.mark_price else "",
        )
        for full in response.markets
        if full.HasField("perpetual_info")
    ]


def _levels(levels: Iterable[Any]) -> list[Level]:
    """Decode levels, which are never negative; calling `decimal_text` would double the cost."""
    text = _text
    return [
        (text[level.p], f"{q[:-18]}.{q[-18:]}" if len(q := level.q) > 18 else text[q])
        for level in levels
    ]


class StreamDecoder:
    """
    Decode chain-stream messages, v2 or v1beta1, read field by field.

    v1beta1 sends amounts in the tokens' smallest units, so it needs the markets' decimals. It
    lacks the digits below 18 places of those units, which v2 keeps.
    """

    def __init__(self, parse: Callable[[bytes], Any], markets: Iterable[Market] = ()) -> None:
        """``parse`` is ``StreamResponse.FromString``; ``markets`` are needed for v1beta1."""
        self._parse = parse
        self._units = {market.market_id: _Units(market) for market in markets}

    def decode(self, payload: bytes | memoryview, subscription: int = 0) -> tuple[int, Block]:
        """
        Decode one message; the wire names no subscription, so the caller passes it.

        Raises:
            DecodeError: If the payload is not a stream message.

        """
        try:
            message = self._parse(bytes(payload))
        # protobuf's error class depends on its implementation and cannot be imported.
        except Exception as error:  # noqa: BLE001
            raise DecodeError("", f"not a chain-stream message: {error}") from None
        updates = [self._update(update) for update in message.spot_orderbook_updates]
        updates += [self._update(update) for update in message.derivative_orderbook_updates]
        trades = [(trade.market_id, self._spot(trade)) for trade in message.spot_trades]
        trades += [
            (trade.market_id, self._derivative(trade)) for trade in message.derivative_trades
        ]
        try:
            trades.sort(key=lambda of_market: number_of(of_market[1]))
        except ValueError as error:
            raise DecodeError("", f"a trade id does not end in a number: {error}") from None
        extras = self._extras(message)
        ts_event = message.block_time * 1_000_000
        return subscription, Block(message.block_height, ts_event, trades, updates, True, extras)

    def _extras(self, message: Any) -> OptionalEvents | None:
        """Decode orders and oracle prices; present only if they were requested."""
        updates = [*message.spot_orders, *message.derivative_orders]
        prices = message.oracle_prices
        if not updates and not prices:
            return None
        return OptionalEvents(
            orders=sorted(map(self._order, updates), key=in_order),
            prices=[(said.symbol, Price(said.type, decimal_text(said.price))) for said in prices],
        )

    def _order(self, update: Any) -> tuple[str, Order]:
        market_id, said = update.order.market_id, update.order.order
        units = self._units.get(market_id, _HUMAN)
        info, order_type = said.order_info, order_fields.type_name(said.order_type)
        margin = getattr(said, "margin", None)
        return market_id, Order(
            _hash(update.order_hash),
            order_fields.status_name(update.status),
            "buy" if "BUY" in order_type else "sell",
            order_type,
            units.price(info.price),
            units.quantity(info.quantity),
            units.quantity(said.fillable),
            info.subaccount_id,
            info.fee_recipient,
            info.cid,
            units.price(said.trigger_price) if said.trigger_price else "",
            "" if margin is None else units.amount(margin),
        )

    def _update(self, update: Any) -> BookUpdate:
        book = update.orderbook
        market_id = book.market_id
        if not self._units:
            return BookUpdate(
                market_id, update.seq, _levels(book.buy_levels), _levels(book.sell_levels)
            )
        units = self._units.get(market_id, _HUMAN)
        return BookUpdate(
            market_id,
            update.seq,
            [(units.price(level.p), units.quantity(level.q)) for level in book.buy_levels],
            [(units.price(level.p), units.quantity(level.q)) for level in book.sell_levels],
        )

    def _spot(self, trade: Any) -> Trade:
        units = self._units.get(trade.market_id, _HUMAN)
        return Trade(
            trade.trade_id,
            "buy" if trade.is_buy else "sell",
            units.price(trade.price),
            units.quantity(trade.quantity),
            units.amount(trade.fee),
            trade.executionType,
            _hash(trade.order_hash),
            trade.subaccount_id,
            trade.fee_recipient_address,
            trade.cid,
        )

    def _derivative(self, trade: Any) -> Trade:
        units = self._units.get(trade.market_id, _HUMAN)
        delta = trade.position_delta
        return Trade(
            trade.trade_id,
            "buy" if trade.is_buy else "sell",
            units.price(delta.execution_price),
            units.quantity(delta.execution_quantity),
            units.amount(trade.fee),
            trade.executionType,
            _hash(trade.order_hash),
            trade.subaccount_id,
            trade.fee_recipient_address,
            trade.cid,
            units.amount(delta.execution_margin),
            units.amount(trade.payout),
        )


def _hash(order_hash: str | bytes) -> str:
    """In some releases v1beta1 has the hash as bytes."""
    return order_hash if isinstance(order_hash, str) else "0x" + order_hash.hex()


class _Units:
    """Converts one market's v1beta1 amounts to the chain's human-readable text."""

    __slots__ = ("_amount", "_price", "_quantity")

    def __init__(self, market: Market | None) -> None:
        self._price = self._quantity = self._amount = 0
        if market is not None:
            self._amount = -market.quote_decimals
            self._price = market.base_decimals - market.quote_decimals
            self._quantity = -market.base_decimals

    def price(self, scaled: str) -> str:
        return decimal_text(shift(scaled, self._price) if self._price else scaled)

    def quantity(self, scaled: str) -> str:
        return decimal_text(shift(scaled, self._quantity) if self._quantity else scaled)

    def amount(self, scaled: str) -> str:
        return decimal_text(shift(scaled, self._amount) if self._amount else scaled)


_HUMAN = _Units(None)


def shift(scaled: str, places: int) -> str:
    """Multiply an integer text by a power of ten; digits below one unit are cut off."""
    if places >= 0:
        return scaled + "0" * places if scaled.strip("-0") else "0"
    sign = "-" if scaled.startswith("-") else ""
    kept = scaled.lstrip("-")[:places]
    return sign + kept if kept else "0"
