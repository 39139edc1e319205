"""
A block as the node's WebSocket prints it, byte for byte (golden/node-v1.20.1.jsonl.gz).

Each market's part is made once per block, each distinct filter's result once, and the
levels of a shared change once and for all: subscriptions then cost a join of bytes.
"""

import functools
import random
from typing import Final

from shards.protocol.events import BookUpdate, Level, Trade
from tests.simulator.exchange import SimBlock
from tests.simulator.filters import Filter, Names, TradesWanted
from tests.simulator.markets import Markets, SimMarket

GAS_PRICE: Final = "160000000.000000000000000000"

_Lists = list[tuple[str, list[bytes]]]

_ORDER: Final = (
    "bank_balances",
    "subaccount_deposits",
    "spot_trades",
    "derivative_trades",
    "spot_orders",
    "derivative_orders",
    "spot_orderbook_updates",
    "derivative_orderbook_updates",
    "positions",
    "oracle_prices",
    "gas_price",
    "order_failures",
    "conditional_order_trigger_failures",
)
"""The node's order of the lists of a block."""


class LevelsJson:
    """The levels of book updates as JSON, rendered once per shared change."""

    def __init__(self) -> None:
        # By identity: the exchange's lists live as long as it does. The update is kept
        # too, so that no other list can take the place of its own in memory.
        self._made: dict[tuple[int, int], tuple[BookUpdate, bytes]] = {}

    def __call__(self, update: BookUpdate) -> bytes:
        """Return ``"buy_levels":[…],"sell_levels":[…]``."""
        key = id(update.bids), id(update.asks)
        known = self._made.get(key)
        if known is None:
            sides = (_levels(update.bids), _levels(update.asks))
            made = '"buy_levels":[{}],"sell_levels":[{}]'.format(*sides).encode()
            known = self._made[key] = update, made
        return known[1]


def _levels(levels: list[Level]) -> str:
    return ",".join(f'{{"p":"{price}","q":"{quantity}"}}' for price, quantity in levels)


@functools.cache
def _shape(asked: tuple[str, ...]) -> tuple[bytes, bytes, bytes, dict[str, bytes]]:
    """
    Print what is the same in every block for those who asked for these lists.

    Returns what stands before the trades, between trades and books, and after them; and
    what stands for each of their lists when it is empty.
    """

    def print_all(names: tuple[str, ...]) -> bytes:
        fields = (
            f',"{name}":"{GAS_PRICE}"' if name == "gas_price" else f',"{name}":[]'
            for name in names
            if name not in asked
        )
        return "".join(fields).encode()

    empty = {name: print_all((name,)) for name in _ORDER}
    return print_all(_ORDER[:2]), print_all(_ORDER[4:6]), print_all(_ORDER[8:]) + b"}", empty


@functools.cache
def _around(asked: tuple[str, ...], spot: bool) -> tuple[bytes, bytes]:
    """Print what stands before and after a block's only update, where there are no trades."""
    before, between, after, empty = _shape(asked)
    name = "spot_orderbook_updates" if spot else "derivative_orderbook_updates"
    lead = [before, empty["spot_trades"], empty["derivative_trades"], between]
    trail = [after]
    if spot:
        trail.insert(0, empty["derivative_orderbook_updates"])
    else:
        lead.append(empty["spot_orderbook_updates"])
    lead.append(b',"%b":[{"seq":"' % name.encode())
    return b"".join(lead), b"}}]" + b"".join(trail)


class WsBlock:
    """One block, ready to be said to any filter."""

    def __init__(self, markets: Markets, block: SimBlock, levels: LevelsJson) -> None:
        self.height = block.height
        self.block = block
        self._markets = markets
        self._levels = levels
        self._head = b'{"block_height":"%d","block_time":"%d"' % (block.height, block.time_ms)
        self._updates: dict[str, bytes] = {}
        self._results: dict[Filter, bytes] = {}
        self._empty: dict[tuple[str, ...], bytes] = {}

    def result(self, filter_: Filter) -> bytes:
        """Return the block as this filter hears it: the value of ``result``."""
        result = self._results.get(filter_)
        if result is None:
            result = self._results[filter_] = self._make(filter_)
        return result

    def message(self, prefix: bytes, filter_: Filter, market: SimMarket | None) -> bytes:
        """
        Print the whole message to a subscription; ``prefix`` is all before the result.

        Given the only market that it hears of, this is fast: most messages are of a block
        without trades of that market.
        """
        if market is None or market.market_id in self.block.trades_of:
            return b"%b%b}" % (prefix, self.result(filter_))
        update = self.block.update_of.get(market.market_id)
        if update is None:
            return b"%b%b}" % (prefix, self._nothing(filter_.asked))
        lead, trail = _around(filter_.asked, market.is_spot)
        return b'%b%b%b%d","orderbook":{"market_id":"%b",%b%b}' % (
            prefix,
            self._head,
            lead,
            update.sequence,
            update.market_id.encode(),
            self._levels(update),
            trail,
        )

    def _nothing(self, asked: tuple[str, ...]) -> bytes:
        empty = self._empty.get(asked)
        if empty is None:
            lists: _Lists = [("spot_trades", []), ("derivative_trades", [])]
            books: _Lists = [("spot_orderbook_updates", []), ("derivative_orderbook_updates", [])]
            empty = self._empty[asked] = self._join(asked, lists, books)
        return empty

    def _make(self, filter_: Filter) -> bytes:
        trades = [
            ("spot_trades", self._trades(filter_.spot_trades, spot=True)),
            ("derivative_trades", self._trades(filter_.derivative_trades, spot=False)),
        ]
        books = [
            ("spot_orderbook_updates", self._books(filter_.spot_books, spot=True)),
            ("derivative_orderbook_updates", self._books(filter_.derivative_books, spot=False)),
        ]
        if any(found for _, found in trades + books):
            return self._join(filter_.asked, trades, books)
        return self._nothing(filter_.asked)

    def _join(self, asked: tuple[str, ...], trades: _Lists, books: _Lists) -> bytes:
        before, between, after, empty = _shape(asked)
        said = [self._head, before]
        for name, found in trades:
            said.append(b',"%b":[%b]' % (name.encode(), b",".join(found)) if found else empty[name])
        said.append(between)
        for name, found in books:
            said.append(b',"%b":[%b]' % (name.encode(), b",".join(found)) if found else empty[name])
        said.append(after)
        return b"".join(said)

    def _books(self, names: Names, *, spot: bool) -> list[bytes]:
        found = self.block.update_of
        markets = self._markets
        if names is None:
            names = tuple(market_id for market_id in found if markets[market_id].is_spot is spot)
        return [
            self._update(found[name])
            for name in names
            if name in found and markets[name].is_spot is spot
        ]

    def _update(self, update: BookUpdate) -> bytes:
        made = self._updates.get(update.market_id)
        if made is None:
            made = self._updates[update.market_id] = (
                b'{"seq":"%d","orderbook":{"market_id":"%b",%b}}'
                % (update.sequence, update.market_id.encode(), self._levels(update))
            )
        return made

    def _trades(self, wanted: TradesWanted, *, spot: bool) -> list[bytes]:
        found = self.block.trades_of
        if not found or wanted.markets == ():
            return []
        markets = self._markets
        names = found if wanted.markets is None else dict.fromkeys(wanted.markets)
        made = [
            (spot_trade if spot else derivative_trade)(name, trade)
            for name in names
            if name in found and markets[name].is_spot is spot
            for trade in found[name]
            if wanted.takes(trade)
        ]
        # The node collects them in a map.
        random.Random(self.height).shuffle(made)
        return made


def spot_trade(market_id: str, trade: Trade) -> bytes:
    """Print a spot trade; false and empty fields are left out."""
    return (
        f'{{"market_id":"{market_id}",{_is_buy(trade)}"executionType":"{trade.execution_type}",'
        f'"quantity":"{trade.quantity}","price":"{trade.price}",'
        f'"subaccount_id":"{trade.subaccount_id}",{_tail(trade)}'
    ).encode()


def derivative_trade(market_id: str, trade: Trade) -> bytes:
    """Print a trade of a derivative or binary market; false and empty fields are left out."""
    is_long = '"is_long":true,' if trade.side == "buy" else ""
    return (
        f'{{"market_id":"{market_id}",{_is_buy(trade)}"executionType":"{trade.execution_type}",'
        f'"subaccount_id":"{trade.subaccount_id}",'
        f'"position_delta":{{{is_long}"execution_quantity":"{trade.quantity}",'
        f'"execution_margin":"{trade.margin}","execution_price":"{trade.price}"}},'
        f'"payout":"{trade.payout}",{_tail(trade)}'
    ).encode()


def _is_buy(trade: Trade) -> str:
    return '"is_buy":true,' if trade.side == "buy" else ""


def _tail(trade: Trade) -> str:
    cid = f'"cid":"{trade.cid}",' if trade.cid else ""
    return (
        f'"fee":"{trade.fee}","order_hash":"{trade.order_hash}",'
        f'"fee_recipient_address":"{trade.fee_recipient}",{cid}"trade_id":"{trade.trade_id}"}}'
    )
