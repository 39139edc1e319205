"""
What a key may read, as prefixes of topics. Pure.

A right is a pattern of topics: ``*``, ``trades.*``, ``book.INJ-USDT``, ``book.INJ*`` or, for one
market in every channel, ``*.INJ-USDT``. ZeroMQ subscribes by prefix, so the star may
only be at the end of the symbol. The intersection of a subscription and a right is then a prefix
too, and libzmq sends only that to the connection.
"""

import re
from collections.abc import Iterable
from typing import Final

from shards.protocol.frames import KIND_BY_CHANNEL
from shards.protocol.text import RESERVED, symbol_of

_is_pattern: Final = re.compile(r"(\*|[a-z]+)(?:\.(.+))?", re.DOTALL).fullmatch


class Rights:
    """
    The topics that a key may read.

    Raises:
        ValueError: If a pattern is not valid; the text says which, and what patterns look like.

    """

    def __init__(self, patterns: Iterable[str]) -> None:
        found: dict[str, None] = {}
        for pattern in patterns:
            found |= dict.fromkeys(_prefixes(pattern))
        self.prefixes: tuple[str, ...] = tuple(found)
        self.everything = "" in found
        self._encoded = tuple(prefix.encode() for prefix in self.prefixes)

    def granted(self, wanted: bytes) -> tuple[bytes, ...]:
        """Return the prefixes that a subscription to a prefix may have; empty if none."""
        if wanted.startswith(self._encoded):
            return (wanted,)
        return tuple(prefix for prefix in self._encoded if prefix.startswith(wanted))

    def may_read(self, topic: str) -> bool:
        """Return whether a topic may be read."""
        return topic.startswith(self.prefixes)

    def may_see(self, symbol: str) -> bool:
        """Return whether any topic of a market may be read."""
        return self.everything or any(self.may_read(f"{c}.{symbol}.") for c in KIND_BY_CHANNEL)


def _prefixes(pattern: str) -> list[str]:
    if pattern == "*":
        return [""]
    found = _is_pattern(pattern)
    channel, symbol = found.groups() if found else ("", "")
    if not found or symbol is None or (channel != "*" and channel not in KIND_BY_CHANNEL):
        raise ValueError(_wrong(pattern))
    # A star alone is the whole symbol, which ends with the topic's last dot.
    if symbol == "*":
        ending = ""
    elif symbol.endswith("*"):
        ending = _spelled(symbol[:-1], pattern, whole=False)
    else:
        ending = _spelled(symbol, pattern, whole=True) + "."
    channels = tuple(KIND_BY_CHANNEL) if channel == "*" else (channel,)
    return [""] if channel == "*" and not ending else [f"{name}.{ending}" for name in channels]


def _spelled(symbol: str, pattern: str, *, whole: bool) -> str:
    """Convert a symbol, or its beginning, to the spelling in topics."""
    if not symbol or set("*?[]") & set(symbol):
        raise ValueError(_wrong(pattern))
    if whole:
        return symbol if symbol in RESERVED else symbol_of(symbol)
    return symbol.replace("/", "-").replace(" ", "-")


def _wrong(pattern: str) -> str:
    return (
        f"{pattern!r:.80} is no pattern of topics: *, CHANNEL.*, CHANNEL.SYMBOL, CHANNEL.BEGINNING* "
        f"or *.SYMBOL, where CHANNEL is one of {', '.join(KIND_BY_CHANNEL)}"
    )


ALL_RIGHTS: Final = Rights(("*",))
NO_RIGHTS: Final = Rights(())
