"""The made-up markets: a few kinds of prices as mainnet has them, many of each."""

import hashlib
import random
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from shards.protocol.settings import MarketType
from tests.simulator.amounts import text

Activity = Literal["busy", "quiet", "dead"]
"""Busy ones change; a quiet one has a book that never changes; a dead one never had any."""

Status = Literal["Active", "Paused", "Demolished"]


class Kind(msgspec.Struct, frozen=True):
    """What markets of one base token have in common. Ticks are 10^-places."""

    base: str
    base_decimals: int
    price_places: int
    quantity_places: int
    mid: int
    """The middle of the book, in price ticks."""


_SPOT: Final = (
    Kind("INJ", 18, 3, 3, 23_450),
    Kind("BTC", 8, 0, 5, 64_210),
    Kind("ATOM", 6, 3, 2, 8_615),
    Kind("PEPE", 18, 9, -3, 7_120),
    Kind("AAVE", 18, 2, 3, 15_104),
)
_DERIVATIVE: Final = (
    Kind("BTC", 0, 0, 4, 64_230),
    Kind("ETH", 0, 1, 3, 36_671),
    Kind("GOLD", 0, 2, 3, 402_310),
    Kind("PEPE", 0, 9, -3, 7_125),
)
_BINARY: Final = (Kind("YES", 0, 3, 0, 510),)


class SimMarket(msgspec.Struct, frozen=True, kw_only=True):
    """One market, with everything its metadata says on any protocol."""

    market_id: str
    ticker: str
    type: MarketType
    kind: Kind
    quote_decimals: int = 6
    status: Status = "Active"
    activity: Activity = "busy"

    @property
    def is_spot(self) -> bool:
        """Spot has queries, lists and units of its own; binary options share the derivatives'."""
        return self.type == "spot"

    @property
    def price_shift(self) -> int:
        """Token units of a price: the power of ten."""
        return self.quote_decimals - (self.kind.base_decimals if self.is_spot else 0)

    @property
    def quantity_shift(self) -> int:
        """Token units of a quantity: the power of ten."""
        return self.kind.base_decimals if self.is_spot else 0

    def price(self, ticks: int) -> str:
        """Spell a price of so many ticks."""
        return text(ticks * 10 ** (18 - self.kind.price_places))

    def quantity(self, ticks: int) -> str:
        """Spell a quantity of so many ticks."""
        return text(ticks * 10 ** (18 - self.kind.quantity_places))


Markets: TypeAlias = Mapping[str, SimMarket]
"""By market id."""


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of the markets does not change."""

    quiet: float = 0.1
    dead: float = 0.05
    paused: float = 0.03


ALL_BUSY: Final = Shares(quiet=0.0, dead=0.0, paused=0.0)


def make_markets(seed: int, count: int, shares: Shares) -> tuple[SimMarket, ...]:
    """Make markets: of 20, 14 are spot, 5 derivatives and 1 a binary option."""
    rng = random.Random(f"markets {seed}")
    numbers = rng.sample(range(count), count)
    paused = set(numbers[: round(count * shares.paused)])
    rest = numbers[len(paused) :]
    quiet = set(rest[: round(count * shares.quiet)])
    dead = set(rest[len(quiet) : len(quiet) + round(count * shares.dead)])
    markets = []
    for n in range(count):
        kind_of, kinds = _type(n)
        kind = kinds[n % len(kinds)]
        activity: Activity = "quiet" if n in quiet else "dead" if n in dead else "busy"
        market = SimMarket(
            market_id="0x" + hashlib.sha256(f"{seed} market {n}".encode()).hexdigest(),
            ticker=_ticker(n, kind_of, kind),
            type=kind_of,
            kind=kind,
            status="Paused" if n in paused else "Active",
            activity=activity,
        )
        markets.append(market)
    return tuple(markets)


def _type(n: int) -> tuple[MarketType, tuple[Kind, ...]]:
    if n % 20 == 13:
        return "binary", _BINARY
    return ("derivative", _DERIVATIVE) if n % 4 == 3 else ("spot", _SPOT)


def _ticker(n: int, kind_of: MarketType, kind: Kind) -> str:
    # Tickers are no keys: now and then the exchange lists one twice.
    number = n - 20 if n % 200 == 199 else n
    suffix = {"spot": "", "derivative": " PERP", "binary": " 2027"}[kind_of]
    return f"{kind.base}{number:04d}/USDT{suffix}"
