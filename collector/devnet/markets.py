"""The market table of a devnet: a pure function of the numbers asked for and the seed."""

import hashlib
import math
from collections.abc import Iterator
from decimal import Decimal
from random import Random
from typing import Literal, NamedTuple

import msgspec


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """
    One market as the genesis and the trader need it.

    Ticks are in human units, as the chain's v2 messages have them; `mid` is the price the
    market starts at, in price ticks.
    """

    market_id: str
    ticker: str
    type: Literal["spot", "derivative"]
    base: str
    """Base denomination of a spot market, oracle symbol of a perpetual one."""
    quote: str
    base_decimals: int
    quote_decimals: int
    price_tick: Decimal
    quantity_tick: Decimal
    min_notional: Decimal
    mid: int
    quiet: bool = False
    paused: bool = False


class _Token(NamedTuple):
    symbol: str
    decimals: int
    price: float


class _Listing(NamedTuple):
    ticker: str
    base: _Token
    quote: _Token


# Prices are in dollars and only have the right order of magnitude.
_QUOTES = (_Token("USDT", 6, 1.0), _Token("USDC", 6, 1.0), _Token("INJ", 18, 25.0))
_TOKENS = tuple(
    _Token(symbol, decimals, price)
    for symbol, decimals, price in (
        ("INJ", 18, 25.0), ("BTC", 8, 97_000.0), ("ETH", 18, 3_400.0), ("ATOM", 6, 8.0),
        ("SOL", 8, 240.0), ("TIA", 6, 5.2), ("OSMO", 6, 0.55), ("AAVE", 18, 165.0),
        ("LINK", 18, 15.0), ("PEPE", 6, 0.000021), ("XAU", 6, 2_700.0), ("ARB", 18, 0.75),
        ("UNI", 18, 9.1), ("BNB", 18, 640.0), ("DOT", 6, 6.3), ("AVAX", 18, 36.0),
        ("WBTC", 8, 97_100.0), ("STX", 6, 1.9), ("SEI", 6, 0.5), ("NEAR", 18, 6.0),
        ("LDO", 18, 1.3), ("GRT", 18, 0.21), ("SUSHI", 18, 0.9), ("CRV", 18, 0.45),
        ("MATIC", 18, 0.45), ("APE", 18, 1.2), ("AXS", 18, 6.1), ("QNT", 18, 105.0),
        ("CHZ", 8, 0.08), ("GF", 18, 0.012), ("KUJI", 6, 0.6), ("NTRN", 6, 0.4),
        ("SOMM", 6, 0.02), ("STRD", 6, 0.7), ("EVMOS", 18, 0.02), ("SCRT", 6, 0.45),
        ("AXL", 6, 0.8), ("WMATIC", 8, 0.45), ("HUAHUA", 6, 0.0001), ("ZIG", 18, 0.09),
        ("DOJO", 18, 0.0023), ("NINJA", 6, 0.012), ("KIRA", 6, 0.0032), ("TALIS", 6, 0.01),
        ("BLACK", 6, 0.02), ("HDRO", 6, 0.02), ("ANDR", 6, 0.04), ("NONJA", 18, 0.0031),
        ("EUR", 6, 1.05), ("GBP", 6, 1.26), ("TRX", 6, 0.2), ("ADA", 6, 0.8),
        ("XRP", 6, 1.4), ("DOGE", 8, 0.4), ("LTC", 8, 90.0), ("BONK", 6, 0.00005),
    )
)  # fmt: skip

# What a reader of tickers trips over: one ticker on two markets (only the denomination differs),
# lower case, a long one. They come early, so that the default devnet has them.
_AWKWARD_SPOT = {
    4: _Listing("ATOM/USDT", _Token("ATOM", 8, 8.0), _QUOTES[0]),
    7: _Listing("hINJ/inj", _Token("HINJ", 18, 25.0), _QUOTES[2]),
    9: _Listing("factory-inj1-LONGTAILMEMECOIN/USDT", _Token("LONGTAIL", 6, 0.4), _QUOTES[0]),
}
_AWKWARD_PERP = {3: _Listing("1000pepe/USDC PERP", _Token("1000PEPE", 18, 0.021), _QUOTES[1])}


def market_table(
    *, spot: int, perp: int, quiet: int = 0, paused: int = 0, seed: int = 1
) -> tuple[Market, ...]:
    """
    Name the markets, spot ones first.

    The last `quiet` of them never trade; the status of the `paused` ones before these is Paused.
    """
    random = Random(seed)
    spots = _listings(spot, awkward=_AWKWARD_SPOT, suffix="")
    perps = _listings(perp, awkward=_AWKWARD_PERP, suffix=" PERP")
    first_quiet = spot + perp - quiet
    table = [
        _market(number, listing, "spot" if number < spot else "derivative", random)
        for number, listing in enumerate([*spots, *perps])
    ]
    for number in range(first_quiet - paused, len(table)):
        idle = {"quiet": number >= first_quiet, "paused": number < first_quiet}
        table[number] = msgspec.structs.replace(table[number], **idle)
    return tuple(table)


def _listings(count: int, *, awkward: dict[int, _Listing], suffix: str) -> list[_Listing]:
    plain = _plain_listings(suffix)
    return [awkward.get(number) or next(plain) for number in range(count)]


def _plain_listings(suffix: str) -> Iterator[_Listing]:
    for quote in _QUOTES:
        for base in _TOKENS:
            if base.symbol != quote.symbol:
                yield _Listing(f"{base.symbol}/{quote.symbol}{suffix}", base, quote)
    number = 0
    while True:
        number += 1
        base = _Token(f"TKN{number}", (18, 8, 6)[number % 3], 1.7 * number)
        yield _Listing(f"{base.symbol}/USDT{suffix}", base, _QUOTES[0])


def _market(
    number: int, listing: _Listing, kind: Literal["spot", "derivative"], random: Random
) -> Market:
    price = listing.base.price / listing.quote.price * random.uniform(0.9, 1.1)
    # Four figures of price, and an order of some tens of ticks is worth some tens of dollars.
    price_tick = Decimal(1).scaleb(math.floor(math.log10(price)) - 3)
    quantity_tick = Decimal(1).scaleb(-round(math.log10(listing.base.price)))
    base = _denom(listing.base, number) if kind == "spot" else listing.base.symbol
    identity = f"{kind} {listing.ticker} {base} {listing.quote.symbol}"
    return Market(
        market_id="0x" + hashlib.sha3_256(identity.encode()).hexdigest(),
        ticker=listing.ticker,
        type=kind,
        base=base,
        quote=quote_denom(listing.quote.symbol),
        base_decimals=listing.base.decimals if kind == "spot" else 0,
        quote_decimals=listing.quote.decimals,
        price_tick=price_tick,
        quantity_tick=quantity_tick,
        min_notional=Decimal(1) if listing.quote.price == 1 else Decimal("0.01"),
        mid=round(Decimal(price) / price_tick),
    )


def _denom(token: _Token, number: int) -> str:
    # Bridged tokens are named by their contract, which also keeps two tokens of one symbol apart.
    contract = hashlib.sha3_256(f"{token.symbol} {token.decimals}".encode()).hexdigest()[:40]
    return "inj" if token.symbol == "INJ" else f"peggy0x{contract}"


def quote_denom(symbol: str) -> str:
    """Name the denomination of a quote token."""
    return _denom(next(token for token in _QUOTES if token.symbol == symbol), 0)
