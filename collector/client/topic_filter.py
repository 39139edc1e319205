"""Which topics a subscriber wants: channels, and symbols by name or by glob."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from collector.client.market_status import MarketStatus
from shards.protocol.channels import CHAIN_WIDE
from shards.protocol.frames import KIND_BY_CHANNEL, topic as topic_name
from shards.protocol.settings import CHAIN
from shards.protocol.text import RESERVED, symbol_of

_GLOB = frozenset("*?[")
_is_market_id = re.compile("0x[0-9a-fA-F]{64}").fullmatch


def symbol_pattern(text: str) -> str:
    """Convert a ticker, or a glob of tickers, to the spelling of symbols."""
    if _GLOB & set(text):
        return text.replace("/", "-").replace(" ", "-")
    return text if text in RESERVED else symbol_of(text)


def one_or_more(names: str | Iterable[str]) -> tuple[str, ...]:
    """Treat a single name as a list of one, not as a list of letters."""
    return (names,) if isinstance(names, str) else tuple(names)


def _in_any_case(pattern: str) -> str:
    """Make a glob match its letters in either case; sets are left as they are."""
    if "[" in pattern:
        return pattern
    return "".join(
        f"[{letter.lower()}{letter.upper()}]" if letter.lower() != letter.upper() else letter
        for letter in pattern
    )


def split(topic: str) -> tuple[str, str]:
    """Split ``channel.SYMBOL.``; for anything else the symbol is empty."""
    channel, _, rest = topic.partition(".")
    return channel, rest[:-1] if rest.endswith(".") else ""


def symbols_only(markets: str | Iterable[str]) -> tuple[str, ...]:
    """
    Return names of markets unchanged, after checking that topics can be made of them.

    Raises:
        ValueError: If one is a market id: topics contain symbols, so nothing would ever match.

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

    Topics of the chain (``blocks``, ``oracle``) match whatever the patterns are, because the
    chain is not a market. Oracle symbols are matched like market symbols.

    Raises:
        ValueError: If a channel is unknown, or nothing is requested.

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
        """Prefixes to subscribe to before the aggregator's topics are known."""
        return self._channel_prefixes() if self.everything else self.exact

    def prefixes(self) -> tuple[str, ...]:
        """Prefixes of all topics that could match, for the topics request."""
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
        """Return the requested names and channels that match none of these topics."""
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
    Convert market ids and tickers to symbols, and check that each pattern matches a market.

    A name that is in the list is taken literally, whatever characters it contains. Without
    ``strict`` a pattern may match something else, such as an oracle's symbol.

    Raises:
        ValueError: If one matches nothing; the text suggests the closest symbols.

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
    """Match as written, or else ignoring case."""
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
