"""The flow's batches as the chain's messages: ticks become decimals, cids get their accounts."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

from collector.devnet.accounts import Account
from collector.devnet.flow import Batch, Order
from collector.devnet.markets import Market
from collector.devnet.protos import PROTOS

_exchange: Final = PROTOS.package("injective.exchange.v2")
_oracle: Final = PROTOS.package("injective.oracle.v1beta1")
_SCALE = 18
"""The chain's decimals travel as whole numbers of 10^-18."""


def scaled(value: Decimal) -> int:
    """Give a human decimal as the chain's whole number."""
    return int(value.scaleb(_SCALE))


class Translator:
    """Turn batches into messages; the ticks of every market are looked up once."""

    def __init__(self, markets: Sequence[Market], *, run: str) -> None:
        """Trade these markets; `run` keeps the cids apart from those of an earlier trader."""
        self._markets = markets
        self._ticks = [(scaled(m.price_tick), scaled(m.quantity_tick)) for m in markets]
        self._run = run

    def batch(self, batch: Batch, account: Account) -> Any:
        """Give the one message that does all of the batch."""
        message = _exchange.MsgBatchUpdateOrders(sender=account.address)
        for number in batch.clears:
            # Only with a list of markets to clear may the message name a subaccount.
            message.subaccount_id = account.subaccount_id
            market = self._markets[number]
            is_spot = market.type == "spot"
            clears = (
                message.spot_market_ids_to_cancel_all
                if is_spot
                else message.derivative_market_ids_to_cancel_all
            )
            clears.append(market.market_id)
        for cancel in batch.cancels:
            market = self._markets[cancel.market]
            is_spot = market.type == "spot"
            cancels = (
                message.spot_orders_to_cancel if is_spot else message.derivative_orders_to_cancel
            )
            cancels.add(
                market_id=market.market_id,
                subaccount_id=account.subaccount_id,
                cid=self._run + cancel.cid,
            )
        for order in batch.orders:
            self._add(message, order, account)
        return message

    def _add(self, message: Any, order: Order, account: Account) -> None:
        market = self._markets[order.market]
        price_tick, quantity_tick = self._ticks[order.market]
        price, quantity = order.price * price_tick, order.quantity * quantity_tick
        info = _exchange.OrderInfo(
            subaccount_id=account.subaccount_id,
            price=str(price),
            quantity=str(quantity),
            cid=self._run + order.cid,
        )
        side = "BUY" if order.is_buy else "SELL"
        is_market = order.kind == "market"
        if market.type == "spot":
            spot = (
                message.spot_market_orders_to_create if is_market else message.spot_orders_to_create
            )
            spot.add(market_id=market.market_id, order_info=info, order_type=side)
            return
        derivative = (
            message.derivative_market_orders_to_create
            if is_market
            else message.derivative_orders_to_create
        )
        # The whole value as margin: no position is ever liquidated.
        margin = str(price * quantity // 10**_SCALE)
        derivative.add(market_id=market.market_id, order_info=info, order_type=side, margin=margin)

    def oracle(self, prices: Iterable[tuple[int, int]], account: Account) -> Any:
        """Give the message that sets the oracle prices of perpetual markets, in ticks."""
        message = _oracle.MsgRelayPriceFeedPrice(sender=account.address)
        for number, ticks in prices:
            market = self._markets[number]
            message.base.append(market.base)
            message.quote.append(market.quote)
            message.price.append(str(ticks * self._ticks[number][0]))
        return message
