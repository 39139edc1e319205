"""
Decode the indexer's messages into the chain's own form.

The indexer sends amounts as decimal text in the tokens' smallest units, execution types in
camelCase, instants in milliseconds, and the chain's ``trade_id`` (in its V2 calls). A sequence of
0 and an instant before 1970 mean "unknown".
"""

import decimal
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from shards.protocol.channels import BOOKS
from shards.protocol.errors import DecodeError
from shards.protocol.events import ZERO, BookUpdate, Level, Snapshot, Trade
from shards.protocol.settings import Market
from shards.protocol.trade_ids import place_of

# Enough digits for every amount: the default of 28 would round some.
_exact: Final = decimal.Context(prec=78)
_PLACES: Final = 18
_NO_FRACTION: Final = "0" * _PLACES


Stream = Literal["book", "trades"]
"""The data that one call of the indexer streams for a market."""
STREAMS: Final[tuple[Stream, ...]] = ("book", "trades")


PARTS: Final = 4
BOOK: Final = 0
TRADES: Final = 1
SPOT_PROBE: Final = 2
DERIVATIVE_PROBE: Final = 3
"""Subscription number modulo `PARTS`: a stream of one market, or the probes of a service."""


def streams_of(channels: Collection[str]) -> tuple[Stream, ...]:
    """Return the streams needed for some channels."""
    wanted = {"book": not BOOKS.isdisjoint(channels), "trades": "trades" in channels}
    return tuple(stream for stream in STREAMS if wanted[stream])


def amount(text: str, places: int) -> str:
    """
    Shift an amount by powers of ten and format it like the chain, with 18 decimals.

    Raises:
        ValueError, ArithmeticError: If it is not a number.

    """
    sign = ""
    if text[:1] == "-":
        sign, text = "-", text[1:]
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if not (digits.isdigit() and digits.isascii()):
        # An exponent, or an empty text: an absent field is zero.
        plain = _exact.create_decimal(text or "0")
        if not plain.is_finite() or plain.is_signed() or plain.adjusted() > _exact.prec:
            raise ValueError(f"no amount: {text!r}")
        return amount(sign + format(plain, "f"), places)
    point = len(whole) + places
    if point <= 0:
        digits = "0" * (1 - point) + digits
        point = 1
    kept = digits[:point].ljust(point, "0").lstrip("0") or "0"
    rest = digits[point : point + _PLACES].ljust(_PLACES, "0")
    if kept == "0" and rest == _NO_FRACTION:
        return ZERO
    return sign + kept + "." + rest


_price: Final = lru_cache(1 << 16)(amount)
"""Cached: prices repeat, quantities hardly ever do."""


class Units(msgspec.Struct, frozen=True):
    """The powers of ten by which one market's amounts are shifted."""

    price: int
    quantity: int
    quote: int

    @classmethod
    def of(cls, market: Market) -> "Units":
        """Spot amounts use units of both tokens; derivatives only those of the quote token."""
        quote = market.quote_decimals
        if market.type == "spot":
            return cls(market.base_decimals - quote, -market.base_decimals, -quote)
        return cls(-quote, 0, -quote)


class StreamMessage(msgspec.Struct, frozen=True, gc=False):
    """One stream message, decoded: a book update or a trade, and its time."""

    ts_event: int
    update: BookUpdate | None = None
    trade: Trade | None = None
    height: int = 0
    """Height of a trade; updates do not carry theirs."""
    is_whole: bool = True
    """False if the message is not a plain update, so that the book must be fetched."""


class BookPosition(msgspec.Struct, frozen=True, gc=False):
    """The current sequence of a market's book at the indexer."""

    market_id: str
    sequence: int
    height: int


class IndexerDecoder:
    """Decodes one service, spot or derivative; the latter includes binary options."""

    def __init__(self, messages: Any, *, spot: bool) -> None:
        """``messages`` is the service's package, ``injective_…_exchange_rpc``."""
        self._update: Any = messages.StreamOrderbookUpdateResponse.FromString
        self._streamed: Any = messages.StreamTradesV2Response.FromString
        self._books: Any = messages.OrderbooksV2Response.FromString
        self._trade = spot_trade if spot else derivative_trade

    def book(self, payload: bytes | memoryview, market: Market, units: Units) -> StreamMessage:
        """
        Decode a ``StreamOrderbookUpdateResponse``.

        Raises:
            DecodeError: If the payload is something else.

        """
        message = _parsed(self._update, payload, market)
        changes = message.orderbook_level_updates
        try:
            update = BookUpdate(
                market.market_id,
                changes.sequence,
                _changed(changes.buys, units),
                _changed(changes.sells, units),
            )
        except (ArithmeticError, ValueError) as error:
            raise DecodeError(market.market_id, f"a level cannot be read: {error!r}") from None
        is_whole = message.operation_type == "update" and changes.sequence > 0
        return StreamMessage(_ns(changes.updated_at), update, None, 0, is_whole)

    def trade(self, payload: bytes | memoryview, market: Market, units: Units) -> StreamMessage:
        """
        Decode a ``StreamTradesV2Response``.

        Raises:
            DecodeError: If the payload is something else.

        """
        message = _parsed(self._streamed, payload, market).trade
        return self.past_trade(message, market, units)

    def past_trade(self, message: Any, market: Market, units: Units) -> StreamMessage:
        """Decode a trade of ``TradesV2``, or of a stream; raises DecodeError."""
        try:
            trade = self._trade(message, market, units)
            return StreamMessage(_ns(message.executed_at), None, trade, place_of(trade)[0])
        except (ArithmeticError, ValueError) as error:
            raise DecodeError(market.market_id, f"a trade cannot be read: {error!r}") from None

    def seen(self, payload: bytes | memoryview) -> Iterator[BookPosition]:
        """
        Read only the sequences from an ``OrderbooksV2Response``.

        Raises:
            DecodeError: If the payload is something else.

        """
        for single in _parsed(self._books, payload, None).orderbooks:
            yield BookPosition(single.market_id, single.orderbook.sequence, single.orderbook.height)


def _parsed(parse: Any, payload: bytes | memoryview, market: Market | None) -> Any:
    try:
        return parse(bytes(payload))
    # protobuf's error class depends on its implementation and cannot be imported.
    except Exception as error:  # noqa: BLE001
        where = market.market_id if market else ""
        raise DecodeError(where, f"not a message of the indexer: {error}") from None


def _changed(levels: Iterable[Any], units: Units) -> list[Level]:
    price, quantity = units.price, units.quantity
    return [
        (
            _price(level.price, price),
            amount(level.quantity, quantity) if level.is_active else ZERO,
        )
        for level in levels
    ]


def snapshot(market: Market, book: Any) -> Snapshot:
    """
    Decode a ``SpotLimitOrderbookV2`` or ``DerivativeLimitOrderbookV2``.

    Raises:
        DecodeError: If an amount cannot be read.

    """
    units = Units.of(market)
    try:
        sides = [
            [
                (amount(level.price, units.price), amount(level.quantity, units.quantity))
                for level in side
            ]
            for side in (book.buys, book.sells)
        ]
    except (ArithmeticError, ValueError) as error:
        raise DecodeError(market.market_id, f"a level cannot be read: {error!r}") from None
    return Snapshot(market.market_id, max(0, book.height), book.sequence, *sides)


def spot_trade(message: Any, market: Market, units: Units | None = None) -> Trade:
    """Decode an ``injective_spot_exchange_rpc.SpotTrade``."""
    units = units or Units.of(market)
    return Trade(
        message.trade_id,
        "buy" if message.trade_direction == "buy" else "sell",
        amount(message.price.price, units.price),
        amount(message.price.quantity, units.quantity),
        amount(message.fee, units.quote),
        _execution_type(message.trade_execution_type),
        message.order_hash,
        message.subaccount_id,
        message.fee_recipient,
        message.cid,
    )


def derivative_trade(message: Any, market: Market, units: Units | None = None) -> Trade:
    """Decode an ``injective_derivative_exchange_rpc.DerivativeTrade``."""
    units = units or Units.of(market)
    delta = message.position_delta
    return Trade(
        message.trade_id,
        "buy" if delta.trade_direction == "buy" else "sell",
        amount(delta.execution_price, units.price),
        amount(delta.execution_quantity, units.quantity),
        amount(message.fee, units.quote),
        _execution_type(message.trade_execution_type),
        message.order_hash,
        message.subaccount_id,
        message.fee_recipient,
        message.cid,
        amount(delta.execution_margin, units.quote),
        amount(message.payout, units.quote),
    )


def _execution_type(name: str) -> str:
    """``limitFill`` is the chain's ``LimitFill``."""
    return name[:1].upper() + name[1:]


def _ns(time_ms: int) -> int:
    """Go's zero time, in year 1, means unknown."""
    return time_ms * 1_000_000 if time_ms > 0 else 0
