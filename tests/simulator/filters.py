"""What a chain-stream subscription asked for, by the node's rules (they surprise)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from shards.protocol.events import Trade
from tests.simulator.markets import Markets, SimMarket

LISTS: Final = {
    "bank_balances_filter": "bank_balances",
    "subaccount_deposits_filter": "subaccount_deposits",
    "spot_trades_filter": "spot_trades",
    "derivative_trades_filter": "derivative_trades",
    "spot_orders_filter": "spot_orders",
    "derivative_orders_filter": "derivative_orders",
    "spot_orderbooks_filter": "spot_orderbook_updates",
    "derivative_orderbooks_filter": "derivative_orderbook_updates",
    "positions_filter": "positions",
    "oracle_price_filter": "oracle_prices",
    "order_failures_filter": "order_failures",
    "conditional_order_trigger_failures_filter": "conditional_order_trigger_failures",
}
"""Filter names and the lists of a block that they fill."""

Names = tuple[str, ...] | None
"""Exact ids; None for all of them."""


class TradesWanted(NamedTuple):
    """Trades of these markets, and of these subaccounts."""

    markets: Names
    subaccounts: Names

    def takes(self, trade: Trade) -> bool:
        """Say whether a trade's subaccount was asked for."""
        return self.subaccounts is None or trade.subaccount_id in self.subaccounts


class Filter(NamedTuple):
    """One subscription's filter; equal ones share their encoded blocks."""

    asked: tuple[str, ...]
    """Lists that were asked for at all: absent when empty, the others are ``[]``."""
    spot_books: Names = ()
    derivative_books: Names = ()
    spot_trades: TradesWanted = TradesWanted((), ())
    derivative_trades: TradesWanted = TradesWanted((), ())

    @property
    def markets(self) -> frozenset[str] | None:
        """Every market it can hear of; None for all."""
        sets = (
            self.spot_books,
            self.derivative_books,
            self.spot_trades.markets,
            self.derivative_trades.markets,
        )
        return None if None in sets else frozenset(name for names in sets for name in names or ())

    def only_market(self, markets: Markets) -> SimMarket | None:
        """Return the one market whose book and perhaps trades are all it hears, if so it is."""
        heard = self.markets
        if heard is None or len(heard) != 1:
            return None
        market = markets.get(next(iter(heard)))
        if market is None:
            return None
        mine, other = self.spot_books, self.derivative_books
        if not market.is_spot:
            mine, other = other, mine
        return market if mine == (market.market_id,) and other == () else None


NO_FILTER: Final = "invalid filter: at least one filter must be set"


def from_json(filters: Mapping[str, Any]) -> Filter:
    """
    Read a filter of the WebSocket.

    Raises:
        ValueError: If none is set; unknown names are passed over in silence.

    """

    def names(filter_name: str, field: str) -> Sequence[str]:
        found = filters[filter_name].get(field) or ()
        return [str(name) for name in found]

    return _filter([name for name in LISTS if filters.get(name) is not None], names)


def from_proto(request: Any) -> Filter:
    """
    Read a ``StreamRequest``.

    Raises:
        ValueError: If no filter is set.

    """

    def names(filter_name: str, field: str) -> Sequence[str]:
        return list(getattr(getattr(request, filter_name), field))

    return _filter([name for name in LISTS if request.HasField(name)], names)


def _filter(present: Sequence[str], names: Callable[[str, str], Sequence[str]]) -> Filter:
    if not present:
        raise ValueError(NO_FILTER)

    def books(name: str) -> Names:
        return _wild(names(name, "market_ids")) if name in present else ()

    def trades(name: str) -> TradesWanted:
        if name not in present:
            return TradesWanted((), ())
        markets, subaccounts = names(name, "market_ids"), names(name, "subaccount_ids")
        # Both given: intersection. One given: only that one counts. None: nothing.
        if not markets and not subaccounts:
            return TradesWanted((), ())
        return TradesWanted(_wild(markets or ["*"]), _wild(subaccounts or ["*"]))

    return Filter(
        tuple(LISTS[name] for name in present),
        books("spot_orderbooks_filter"),
        books("derivative_orderbooks_filter"),
        trades("spot_trades_filter"),
        trades("derivative_trades_filter"),
    )


def _wild(names: Sequence[str]) -> Names:
    # A wildcard in any other place is an id like another, which matches nothing.
    return None if names and names[0] == "*" else tuple(names)
