"""Which markets are meant: names made unique, patterns matched. Pure."""

import difflib
import fnmatch
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from collector.settings.wording import plural
from shards.protocol.errors import ConfigError
from shards.protocol.frames import symbol_of
from shards.protocol.settings import Market


def with_symbols(markets: Sequence[Market]) -> list[Market]:
    """Give every market its symbol; where two would share one, both get their id's first bytes."""
    plain = Counter(symbol_of(market.ticker) for market in markets)
    named = []
    for market in markets:
        symbol = symbol_of(market.ticker)
        if plain[symbol] > 1:
            symbol = f"{symbol}-{market.market_id[2:10]}"
        named.append(msgspec.structs.replace(market, symbol=symbol))
    return named


def choose(
    markets: Sequence[Market],
    patterns: Sequence[str] = (),
    types: Iterable[str] = (),
    *,
    where: str = "the network",
) -> list[Market]:
    """
    Choose markets by pattern (ticker, symbol, a glob of either, or market id) and type.

    Without a pattern all active ones are chosen. A pattern is first taken as written,
    then without regard to case.

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
