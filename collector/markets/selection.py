"""Select markets: unique symbols, pattern matching. Pure."""

import difflib
import fnmatch
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from collector.settings.wording import plural
from shards.protocol.errors import ConfigError
from shards.protocol.settings import Market
from shards.protocol.text import SYMBOL_MOST, is_ordinary, symbol_of


def with_symbols(
    markets: Sequence[Market], known: Mapping[str, str] = MappingProxyType({})
) -> list[Market]:
    """
    Give every market a unique symbol. This is the only place that creates symbols.

    The symbol is the ticker as topics spell it. If several markets would share it, the one whose
    ticker is spelled exactly so keeps it and the others get the first digits of their id appended,
    so that nobody can take over a market's symbol by launching one with a similar name. If two
    tickers are spelled alike, both get the digits.

    Args:
        known: Symbols already assigned, by market id; they stay.

    """
    fresh = [market for market in markets if market.market_id not in known]
    spelled = Counter(symbol_of(market.ticker) for market in fresh)
    ordinary = Counter(symbol_of(m.ticker) for m in fresh if is_ordinary(m.ticker))
    taken = set(known.values())
    symbols = dict(known)
    plain: list[Market] = []
    for market in fresh:
        symbol = symbol_of(market.ticker)
        alone = spelled[symbol] == 1 or (ordinary[symbol] == 1 and is_ordinary(market.ticker))
        if alone and symbol not in taken:
            symbols[market.market_id] = symbol
        else:
            plain.append(market)
    taken |= set(symbols.values())
    for market in plain:
        symbols[market.market_id] = _apart(market, taken)
        taken.add(symbols[market.market_id])
    return [msgspec.structs.replace(m, symbol=symbols[m.market_id]) for m in markets]


def _apart(market: Market, taken: Container[str]) -> str:
    """Append enough of a market's id to its symbol to make it unique."""
    digits = market.market_id.removeprefix("0x")
    plain = symbol_of(market.ticker)[: SYMBOL_MOST // 2]
    # A ticker may imitate another market's symbol, but not with that market's whole id.
    for length in range(8, max(9, len(digits) + 1)):
        symbol = f"{plain}-{digits[:length]}"
        if symbol not in taken:
            return symbol
    raise AssertionError(f"two markets of the id {market.market_id}")


def choose(
    markets: Sequence[Market],
    patterns: Sequence[str] = (),
    types: Iterable[str] = (),
    *,
    where: str = "the network",
) -> list[Market]:
    """
    Choose markets by pattern (ticker, symbol, a glob of either, or market id) and type.

    Without patterns all active markets are chosen. A pattern is matched as written first, then
    ignoring case.

    Raises:
        ConfigError: If a pattern or the whole choice matches nothing.

    """
    wanted = set(types)
    candidates = [m for m in markets if not wanted or m.type in wanted]
    if not candidates:
        raise ConfigError(
            f"no market of type {' or '.join(sorted(wanted)) or 'any'}: "
            f"{where} has {plural(len(markets), 'market')}"
        )
    if not patterns:
        chosen = [market for market in candidates if market.status == "Active"]
        if not chosen:
            raise ConfigError("no market is active on this network")
        return chosen
    matched: set[str] = set()
    for pattern in patterns:
        found = _matching(candidates, pattern)
        if not found:
            raise ConfigError(_no_match(candidates, pattern))
        matched.update(market.market_id for market in found)
    return [market for market in candidates if market.market_id in matched]


def _matching(markets: Sequence[Market], pattern: str) -> list[Market]:
    # A name is not a pattern, whatever characters it contains.
    named = [m for m in markets if pattern in (m.ticker, m.symbol)]
    if named:
        return named
    exact = [
        market
        for market in markets
        if market.market_id == pattern.lower()
        or fnmatch.fnmatchcase(market.ticker, pattern)
        or fnmatch.fnmatchcase(market.symbol, pattern)
    ]
    if exact:
        return exact
    folded = pattern.casefold()
    return [
        market
        for market in markets
        if fnmatch.fnmatchcase(market.ticker.casefold(), folded)
        or fnmatch.fnmatchcase(market.symbol.casefold(), folded)
    ]


def _no_match(markets: Sequence[Market], pattern: str) -> str:
    names = {market.symbol.casefold(): market.symbol for market in markets}
    close = difflib.get_close_matches(symbol_of(pattern).casefold(), names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(names[name] for name in close)}? " if close else ""
    return (
        f"no market matches {pattern!r}: {hint}"
        f"'collector markets' lists the {len(markets)} there are"
    )
