"""Which topics a subscriber wants: channels, and symbols by name or by glob."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from collector.client.summary import MarketStatus
from shards.protocol.channels import CHAIN_WIDE
from shards.protocol.frames import KIND_BY_CHANNEL, topic as topic_name
from shards.protocol.settings import CHAIN
from shards.protocol.text import RESERVED, symbol_of

_GLOB = frozenset("*?[")
_is_market_id = re.compile("0x[0-9a-fA-F]{64}").fullmatch


def symbol_pattern(text: str) -> str:
    """Spell a ticker, or a glob of tickers, as symbols are spelled."""
    if _GLOB & set(text):
        return text.replace("/", "-").replace(" ", "-")
    return text if text in RESERVED else symbol_of(text)


def one_or_more(names: str | Iterable[str]) -> tuple[str, ...]:
    """Take one name for a list of one, not for a list of its letters."""
    return (names,) if isinstance(names, str) else tuple(names)


def _in_any_case(pattern: str) -> str:
    """Make a glob of a pattern that matches in any case of its letters; sets stay as they are."""
    if "[" in pattern:
        return pattern
    return "".join(
        f"[{letter.lower()}{letter.upper()}]" if letter.lower() != letter.upper() else letter
        for letter in pattern
    )


def split(topic: str) -> tuple[str, str]:
    """Take ``channel.SYMBOL.`` apart; the symbol of something else is empty."""
    channel, _, rest = topic.partition(".")
    return channel, rest[:-1] if rest.endswith(".") else ""


def symbols_only(markets: str | Iterable[str]) -> tuple[str, ...]:
    """
    Return the names of markets as they are, if topics can be made of them.

    Raises:
        ValueError: If one is a market id: topics name symbols, so nothing would ever come.

    """
    names = one_or_more(markets)
    for name in names:
        if _is_market_id(name):
            raise ValueError(
                f"{name[:10]}… is a market id, and topics name symbols: "
                "use the symbol or the ticker that `collector markets` shows beside it"
            )
    return names


class Wanted:
    """
    The topics that match one of the patterns in one of the channels.

    The chain is no market: who wants ``blocks`` or ``oracle`` gets its topics whatever the
    patterns are. Oracle symbols are matched like markets' symbols.

    Raises:
        ValueError: If a channel is unknown, or nothing at all is asked for.

    """

    def __init__(self, markets: str | Iterable[str], channels: str | Iterable[str]) -> None:
        self.channels = tuple(dict.fromkeys(one_or_more(channels)))
        for channel in self.channels:
            if channel not in KIND_BY_CHANNEL:
                raise ValueError(
                    f"unknown channel {channel!r}: choose from {', '.join(KIND_BY_CHANNEL)}"
                )
        patterns = dict.fromkeys(map(symbol_pattern, one_or_more(markets)))
        self._asked = tuple(patterns)
        patterns |= dict.fromkeys(_in_any_case(name) for name in patterns if name != name.upper())
        if not patterns or not self.channels:
            raise ValueError("nothing to subscribe to: no market or no channel is named")
        self.everything = "*" in patterns
        self.globs = () if self.everything else tuple(p for p in patterns if _GLOB & set(p))
        exact = () if self.everything else tuple(p for p in patterns if not _GLOB & set(p))
        of_markets = [channel for channel in self.channels if channel != "blocks"]
        self.exact = tuple(topic_name(c, s) for c in of_markets for s in exact)
        if not self.everything and not CHAIN_WIDE.isdisjoint(self.channels):
            chains = (c for c in self.channels if c in ("blocks", "gap"))
            self.exact += tuple(topic_name(channel, CHAIN.symbol) for channel in chains)
        self._exact = frozenset(self.exact)

    def subscriptions(self) -> tuple[str, ...]:
        """Prefixes to subscribe to before any topic of the aggregator is known."""
        return self._channel_prefixes() if self.everything else self.exact

    def prefixes(self) -> tuple[str, ...]:
        """Prefixes of all topics that could match, for the request for topics."""
        return self._channel_prefixes() if self.everything or self.globs else self.exact

    def needs_subscription(self, topic: str) -> bool:
        """Whether no prefix of `subscriptions` covers the topic."""
        return not self.everything and topic not in self._exact

    def matches(self, topic: str) -> bool:
        """Whether the topic is wanted."""
        channel, symbol = split(topic)
        if channel not in self.channels or not symbol:
            return False
        if self.everything or topic in self._exact:
            return True
        return any(fnmatchcase(symbol, glob) for glob in self.globs)

    def unmatched(self, topics: Iterable[str]) -> tuple[str, ...]:
        """Name what was asked for and matches none of these topics."""
        if self.everything or self.channels == ("blocks",):
            return ()
        symbols = {split(topic)[1].casefold() for topic in topics}
        return tuple(
            name
            for name in self._asked
            if not any(fnmatchcase(symbol, name.casefold()) for symbol in symbols)
        )

    def _channel_prefixes(self) -> tuple[str, ...]:
        return tuple(f"{channel}." for channel in self.channels)


def known_symbols(
    patterns: str | Iterable[str], markets: Iterable[MarketStatus], *, strict: bool = True
) -> list[str]:
    """
    Turn market ids and tickers into symbols, and make sure that each pattern matches a market.

    A name that is in the list is taken as that name, whatever characters are in it. Not
    ``strict``, a pattern may name something else, an oracle's symbol.

    Raises:
        ValueError: If one matches nothing; its text names the closest symbols.

    """
    table: dict[str, list[str]] = {}
    symbols: list[str] = []
    for market in markets:
        symbols.append(market.symbol)
        for name in dict.fromkeys((market.symbol, market.market_id, market.ticker)):
            table.setdefault(name, []).append(market.symbol)
    known: list[str] = []
    for pattern in one_or_more(patterns):
        found = table.get(pattern) or table.get(pattern.lower())
        known += found if found is not None else _matching(pattern, symbols, strict=strict)
    return list(dict.fromkeys(known))


def _matching(pattern: str, symbols: Sequence[str], *, strict: bool) -> list[str]:
    """Match as it is written, or else in any case of its letters."""
    symbol = symbol_pattern(pattern)
    if not symbols or any(fnmatchcase(name, symbol) for name in symbols):
        return [symbol]
    folded = symbol.casefold()
    found = [name for name in symbols if fnmatchcase(name.casefold(), folded)]
    if strict and not found:
        close = get_close_matches(symbol.upper(), symbols, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"no market matches {pattern!r}{hint}")
    return found or [symbol]
