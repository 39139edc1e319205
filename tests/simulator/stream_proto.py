"""
A block as a ``StreamResponse`` of the gRPC chain stream v2, written by hand.

The generated classes would take most of the time: here, as in ws_json, what is shared is
made once and a subscription costs a join. test_golden compares the bytes with the node's.
"""

import random
from collections.abc import Iterable

from shards.protocol.events import BookUpdate, Level, Trade
from tests.simulator.amounts import scaled_text
from tests.simulator.exchange import SimBlock
from tests.simulator.filters import Filter, Names, TradesWanted
from tests.simulator.markets import Markets
from tests.simulator.protowire import number, string, submessage
from tests.simulator.ws_json import GAS_PRICE


class LevelsProto:
    """The levels of book updates as protobuf, made once per shared change."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], tuple[BookUpdate, bytes]] = {}

    def __call__(self, update: BookUpdate) -> bytes:
        """Return the fields ``buy_levels`` and ``sell_levels`` of an ``Orderbook``."""
        key = id(update.bids), id(update.asks)
        known = self._made.get(key)
        if known is None:
            known = self._made[key] = update, _levels(2, update.bids) + _levels(3, update.asks)
        return known[1]


def _levels(tag: int, levels: Iterable[Level]) -> bytes:
    return b"".join(
        submessage(tag, string(1, scaled_text(price)) + string(2, scaled_text(quantity)))
        for price, quantity in levels
    )


class ProtoBlock:
    """One block, ready to be said to any filter."""

    def __init__(self, markets: Markets, block: SimBlock, levels: LevelsProto) -> None:
        self.block = block
        self._markets = markets
        self._levels = levels
        self._head = number(1, block.height) + number(2, block.time_ms)
        self._tail = string(13, GAS_PRICE)
        self._updates: dict[str, bytes] = {}
        self._messages: dict[Filter, bytes] = {}

    def message(self, filter_: Filter) -> bytes:
        """Return the block as this filter hears it."""
        message = self._messages.get(filter_)
        if message is None:
            parts = [
                self._head,
                *self._trades(5, filter_.spot_trades, spot=True),
                *self._trades(6, filter_.derivative_trades, spot=False),
                *self._books(9, filter_.spot_books, spot=True),
                *self._books(10, filter_.derivative_books, spot=False),
                self._tail,
            ]
            message = self._messages[filter_] = b"".join(parts)
        return message

    def _books(self, tag: int, names: Names, *, spot: bool) -> list[bytes]:
        found = self.block.update_of
        return [
            self._update(tag, found[name])
            for name in (found if names is None else names)
            if name in found and self._markets[name].is_spot is spot
        ]

    def _update(self, tag: int, update: BookUpdate) -> bytes:
        made = self._updates.get(update.market_id)
        if made is None:
            book = string(1, update.market_id) + self._levels(update)
            content = number(1, update.sequence) + submessage(2, book)
            made = self._updates[update.market_id] = submessage(tag, content)
        return made

    def _trades(self, tag: int, wanted: TradesWanted, *, spot: bool) -> list[bytes]:
        found = self.block.trades_of
        if not found or wanted.markets == ():
            return []
        names = found if wanted.markets is None else dict.fromkeys(wanted.markets)
        print_trade = spot_trade if spot else derivative_trade
        made = [
            submessage(tag, print_trade(name, trade))
            for name in names
            if name in found and self._markets[name].is_spot is spot
            for trade in found[name]
            if wanted.takes(trade)
        ]
        # The node collects them in a map.
        random.Random(self.block.height).shuffle(made)
        return made


def spot_trade(market_id: str, trade: Trade) -> bytes:
    """Write a ``SpotTrade``."""
    return b"".join(
        (
            string(1, market_id),
            number(2, trade.side == "buy"),
            string(3, trade.execution_type),
            string(4, scaled_text(trade.quantity)),
            string(5, scaled_text(trade.price)),
            string(6, trade.subaccount_id),
            string(7, scaled_text(trade.fee)),
            _tail(trade),
        )
    )


def derivative_trade(market_id: str, trade: Trade) -> bytes:
    """Write a ``DerivativeTrade``."""
    delta = b"".join(
        (
            number(1, trade.side == "buy"),
            string(2, scaled_text(trade.quantity)),
            string(3, scaled_text(trade.margin)),
            string(4, scaled_text(trade.price)),
        )
    )
    return b"".join(
        (
            string(1, market_id),
            number(2, trade.side == "buy"),
            string(3, trade.execution_type),
            string(4, trade.subaccount_id),
            submessage(5, delta),
            string(6, scaled_text(trade.payout)),
            string(7, scaled_text(trade.fee)),
            _tail(trade),
        )
    )


def _tail(trade: Trade) -> bytes:
    return b"".join(
        (
            string(8, trade.order_hash),
            string(9, trade.fee_recipient),
            string(10, trade.cid),
            string(11, trade.trade_id),
        )
    )
