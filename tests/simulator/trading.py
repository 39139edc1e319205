"""Matches: who traded, at what price, in which of the ways a block can execute orders."""

import random
from collections.abc import Sequence
from typing import Final, Literal

import bech32
import msgspec

from shards.protocol.events import Side, Trade
from tests.simulator.amounts import ONE, scaled, text
from tests.simulator.markets import SimMarket

Where = Literal["begin", "tx", "end"]
ORDER: Final[dict[str, int]] = {"begin": 0, "tx": 1, "end": 2}
"""In which order a node publishes the events of a block, and so numbers its trades."""

_WHERE: Final[tuple[Where, ...]] = ("begin", "tx", "tx", *("end",) * 12)

_MATCHES: Final = (
    ("LimitMatchRestingOrder", "LimitMatchNewOrder"),
    # Two orders of one block, and neither is the taker.
    ("LimitMatchNewOrder", "LimitMatchNewOrder"),
    ("LimitFill", "Market"),
)


class Execution(msgspec.Struct, frozen=True):
    """One batch execution event: the fills of one side of one market in one way."""

    market_id: str
    where: Where
    execution_type: str
    side: Side
    trades: list[Trade]


class Account(msgspec.Struct, frozen=True):
    """A trader."""

    subaccount_id: str
    address: str


def make_accounts(rng: random.Random, count: int) -> list[Account]:
    """Make traders, each with one subaccount."""
    accounts = []
    for _ in range(count):
        raw = rng.randbytes(20)
        words = bech32.convertbits(raw, 8, 5)
        nonce = rng.choice((0, 0, 1)).to_bytes(12, "big")
        address = bech32.bech32_encode("inj", words or [])
        accounts.append(Account("0x" + (raw + nonce).hex(), address))
    return accounts


def address_bytes(address: str) -> bytes:
    """Read an address's bytes back from bech32."""
    _, words = bech32.bech32_decode(address)
    return bytes(bech32.convertbits(words or [], 5, 8, False) or [])


class Matching:
    """Makes the executions of a block."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._accounts = make_accounts(rng, 16)

    def block(self, height: int, markets: Sequence[SimMarket]) -> list[Execution]:
        """Make a match in each of these markets; one may be named more than once."""
        made: list[Execution] = []
        for market in markets:
            made += self._match(market)
        made.sort(key=lambda execution: ORDER[execution.where])
        count = 0
        for execution in made:
            trades = execution.trades
            for i, trade in enumerate(trades):
                trades[i] = msgspec.structs.replace(trade, trade_id=f"{height}_{count}")
                count += 1
        return made

    def _match(self, market: SimMarket) -> list[Execution]:
        rng = self._rng
        maker_type, taker_type = rng.choice(_MATCHES)
        where: Where = rng.choice(_WHERE)
        buy_is_maker = rng.random() < 0.5
        price = market.price(market.kind.mid + rng.randint(-5, 5))
        parts = [rng.randint(1, 9_000) for _ in range(rng.choice((1, 1, 2, 3)))]
        maker: Side = "buy" if buy_is_maker else "sell"
        taker: Side = "sell" if buy_is_maker else "buy"
        return [
            Execution(
                market.market_id,
                where,
                maker_type,
                maker,
                [self._fill(market, maker, price, part, maker_type) for part in parts],
            ),
            Execution(
                market.market_id,
                where,
                taker_type,
                taker,
                [self._fill(market, taker, price, sum(parts), taker_type)],
            ),
        ]

    def _fill(
        self, market: SimMarket, side: Side, price: str, quantity: int, execution_type: str
    ) -> Trade:
        rng = self._rng
        account = rng.choice(self._accounts)
        amount = market.quantity(quantity)
        notional = scaled(price) * scaled(amount) // ONE
        is_taker = execution_type in ("Market", "LimitMatchNewOrder")
        closes = not market.is_spot and rng.random() < 0.3
        return Trade(
            "",
            side,
            price,
            amount,
            text(notional // 1_000) if is_taker else text(-(notional // 10_000)),
            execution_type,
            "0x" + rng.randbytes(32).hex(),
            account.subaccount_id,
            account.address,
            rng.randbytes(6).hex() if rng.random() < 0.5 else "",
            "" if market.is_spot else text(0 if closes else notional // 4),
            "" if market.is_spot else text(notional // 5 if closes else 0),
        )
