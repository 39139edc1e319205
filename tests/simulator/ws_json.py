"""
A block as the node's WebSocket prints it, byte for byte (golden/node-v1.20.1.jsonl.gz).

Each market's part is made once per block, each distinct filter's result once, and the
levels of a shared change once and for all: subscriptions then cost a join of bytes.
"""

import random
from typing import Final

from shards.events import BookUpdate, Level, Trade
from tests.simulator.exchange import Exchange, SimBlock
from tests.simulator.filters import Filter, Names, TradesWanted

GAS_PRICE: Final = "160000000.000000000000000000"

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


class LevelsJson:
    """The levels of book updates as JSON, rendered once per list."""

    def __init__(self) -> None:
        # By identity: the exchange's lists live as long as it does. The list is kept too,
        # so that no other can take its place in memory.
        self._made: dict[int, tuple[list[Level], bytes]] = {}

    def __call__(self, update: BookUpdate) -> bytes:
        """Return ``"buy_levels":[…],"sell_levels":[…]``."""
        return b'"buy_levels":[%b],"sell_levels":[%b]' % (
            self._levels(update.bids),
            self._levels(update.asks),
        )

    def _levels(self, levels: list[Level]) -> bytes:
        known = self._made.get(id(levels))
        if known is not None:
            return known[1]
        made = ",".join(f'{{"p":"{price}","q":"{quantity}"}}' for price, quantity in levels)
        self._made[id(levels)] = levels, made.encode()
        return made.encode()


class WsBlock:
    """One block, ready to be said to any filter."""

    def __init__(self, exchange: Exchange, block: SimBlock, levels: LevelsJson) -> None:
        self.height = block.height
        self.block = block
        self._exchange = exchange
        self._levels = levels
        self._updates: dict[str, bytes] = {}
        self._results: dict[Filter, bytes] = {}
        self._empty: dict[tuple[str, ...], bytes] = {}

    def result(self, filter_: Filter) -> bytes:
        """Return the block as this filter hears it: the value of ``result``."""
        result = self._results.get(filter_)
        if result is None:
            result = self._results[filter_] = self._make(filter_)
        return result

    def _make(self, filter_: Filter) -> bytes:
        parts = {
            "spot_trades": self._trades(filter_.spot_trades, spot=True),
            "derivative_trades": self._trades(filter_.derivative_trades, spot=False),
            "spot_orderbook_updates": self._books(filter_.spot_books, spot=True),
            "derivative_orderbook_updates": self._books(filter_.derivative_books, spot=False),
        }
        if any(parts.values()):
            return self._join(filter_.asked, parts)
        empty = self._empty.get(filter_.asked)
        if empty is None:
            empty = self._empty[filter_.asked] = self._join(filter_.asked, parts)
        return empty

    def _join(self, asked: tuple[str, ...], parts: dict[str, list[bytes]]) -> bytes:
        said = [b'"block_height":"%d","block_time":"%d"' % (self.height, self.block.time_ms)]
        for name in _ORDER:
            found = parts.get(name)
            if found:
                said.append(b'"%b":[%b]' % (name.encode(), b",".join(found)))
            elif name == "gas_price":
                said.append(f'"gas_price":"{GAS_PRICE}"'.encode())
            elif name not in asked:
                said.append(b'"%b":[]' % name.encode())
        return b"{%b}" % b",".join(said)

    def _books(self, names: Names, *, spot: bool) -> list[bytes]:
        found = self.block.update_of
        markets = self._exchange.by_id
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
        markets = self._exchange.by_id
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
