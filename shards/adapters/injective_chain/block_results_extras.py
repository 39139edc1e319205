"""
Orders and oracle prices of a lost block, from the events that feed the chain stream.

The stream builds its order updates from four exchange events, and its oracle prices from the
events that each oracle emits when it sets prices.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import msgspec

from shards.adapters.injective_chain import order_fields
from shards.adapters.injective_chain.ws_extras_decoder import OrderInfo
from shards.protocol.events import OptionalEvents, Order, Price, in_order

Attributes: TypeAlias = dict[str, str]
Prices: TypeAlias = list[tuple[str, Price]]

_EXCHANGE: Final = "injective.exchange.v2."
_ORACLE: Final = "injective.oracle.v1beta1."


class _LimitOrder(msgspec.Struct, gc=False):
    order_info: OrderInfo
    fillable: str = ""
    order_type: str = ""
    trigger_price: str | None = None
    margin: str = ""
    order_hash: str = ""


class _PriceState(msgspec.Struct, gc=False):
    price: str


class _Priced(msgspec.Struct, gc=False):
    """One price, as emitted by oracles that set several at once."""

    price_id: str = ""
    symbol: str = ""
    feed_id: str = ""
    ema_price: str = ""
    price_state: _PriceState | None = None


_order: Final = msgspec.json.Decoder(_LimitOrder | None, strict=False).decode
_orders: Final = msgspec.json.Decoder(list[_LimitOrder] | None, strict=False).decode
_priced: Final = msgspec.json.Decoder(list[_Priced] | None, strict=False).decode
_texts: Final = msgspec.json.Decoder(list[str] | None).decode
_text: Final = msgspec.json.Decoder(str).decode


def decode(events: Iterable[Any]) -> OptionalEvents | None:
    """
    Collect a block's order updates and oracle prices; None if there are none.

    Raises:
        msgspec.DecodeError: If an event has another format.
        KeyError: If an attribute is missing.

    """
    updates: list[tuple[str, Order]] = []
    prices: Prices = []
    for event in events:
        if (read_orders := _ORDERS.get(event.type)) is not None:
            updates += read_orders(_attributes(event))
        elif (read_prices := _PRICES.get(event.type)) is not None:
            prices += read_prices(_attributes(event))
    if not updates and not prices:
        return None
    return OptionalEvents(sorted(updates, key=in_order), prices)


def _attributes(event: Any) -> Attributes:
    return {attribute.key: attribute.value for attribute in event.attributes}


# ---- orders -------------------------------------------------------------------------------


def _placed(said: Attributes) -> list[tuple[str, Order]]:
    """``EventNewSpotOrders``, ``EventNewDerivativeOrders``: orders that came to rest in the book."""
    market_id = _text(said["market_id"])
    found = [*(_orders(said["buy_orders"]) or ()), *(_orders(said["sell_orders"]) or ())]
    return [(market_id, _update(one, _new(one))) for one in found]


def _new(said: _LimitOrder) -> str:
    return "booked" if said.fillable == said.order_info.quantity else "matched"


def _update(said: _LimitOrder, status: str) -> Order:
    return order_fields.order(
        order_fields.hexadecimal(said.order_hash), status, said.order_type, said
    )


def _cancelled(said: Attributes) -> list[tuple[str, Order]]:
    """``EventCancelSpotOrder``, ``EventCancelDerivativeOrder``; not emitted for market orders."""
    found = _order(said.get("order") or said.get("limit_order") or "null")
    return [] if found is None else [(_text(said["market_id"]), _update(found, "cancelled"))]


def _conditional(said: Attributes) -> list[tuple[str, Order]]:
    """``EventNewConditionalDerivativeOrder``: a complete order that rests outside the book."""
    found = _order(said["order"])
    if found is None:
        return []
    found.fillable = found.order_info.quantity
    found.order_hash = _text(said["hash"])
    return [(_text(said["market_id"]), _update(found, "booked"))]


_ORDERS: Final[dict[str, Callable[[Attributes], list[tuple[str, Order]]]]] = {
    _EXCHANGE + "EventNewSpotOrders": _placed,
    _EXCHANGE + "EventNewDerivativeOrders": _placed,
    _EXCHANGE + "EventCancelSpotOrder": _cancelled,
    _EXCHANGE + "EventCancelDerivativeOrder": _cancelled,
    _EXCHANGE + "EventNewConditionalDerivativeOrder": _conditional,
}

# ---- oracle prices ------------------------------------------------------------------------


def _one(kind: str, symbol: str) -> Callable[[Attributes], Prices]:
    """An oracle whose event sets one price; the attribute ``symbol`` names it."""
    return lambda said: [(_text(said[symbol]), Price(kind, _text(said["price"])))]


def _band(said: Attributes) -> Prices:
    symbols, prices = _texts(said["symbols"]) or (), _texts(said["prices"]) or ()
    pairs = zip(symbols, prices, strict=False)
    return [(symbol, Price("bandibc", price)) for symbol, price in pairs]


def _pyth(said: Attributes) -> Prices:
    found = _priced(said["prices"]) or ()
    return [(one.price_id, Price("pyth", one.ema_price)) for one in found]


def _several(kind: str) -> Callable[[Attributes], Prices]:
    """An oracle whose event sets several prices, each with its state."""

    def read(said: Attributes) -> Prices:
        return [
            (one.symbol or one.feed_id, Price(kind, one.price_state.price))
            for one in _priced(said["prices"]) or ()
            if one.price_state is not None
        ]

    return read


_PRICES: Final[dict[str, Callable[[Attributes], Prices]]] = {
    _ORACLE + "SetPriceFeedPriceEvent": _one("pricefeed", "base"),
    _ORACLE + "SetProviderPriceEvent": _one("provider", "symbol"),
    _ORACLE + "SetCoinbasePriceEvent": _one("coinbase", "symbol"),
    _ORACLE + "SetBandIBCPriceEvent": _band,
    _ORACLE + "EventSetPythPrices": _pyth,
    _ORACLE + "EventSetStorkPrices": _several("stork"),
    _ORACLE + "EventSetChainlinkDataStreamsPrices": _several("chainlinkdatastreams"),
}
