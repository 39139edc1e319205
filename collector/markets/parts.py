"""
Parts: a stable share of the markets for each of several cells.

Rendezvous hashing: each part draws a number for a market, from the market's id alone, and the
highest one has it. So every market, also one that is listed later, belongs to exactly one part
without anybody keeping a list, and with one part more only its own share moves. Pure.
"""

import hashlib
from collections.abc import Iterable
from typing import Self

import msgspec

from shards.protocol.settings import Market

_MOST = 1_000


class Part(msgspec.Struct, frozen=True):
    """Part ``number`` of ``count``, from 1; 1 of 1 is everything."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read ``2/3``.

        Raises:
            ValueError: If it is not of that form.

        """
        number, slash, count = text.strip().partition("/")
        if slash and all(
            one.isascii() and one.isdecimal() and len(one) < 5 for one in (number, count)
        ):
            part = cls(int(number), int(count))
            if 1 <= part.number <= part.count <= _MOST:
                return part
        raise ValueError(f"{text!r} is no part: write 1/3, 2/3 or 3/3, for one of three parts")

    def has(self, market: Market) -> bool:
        """Whether a market belongs to this part; the chain's own feed belongs to each."""
        if self.count == 1 or market.type == "chain":
            return True
        drawn = (_drawn(market.market_id, number) for number in range(1, self.count + 1))
        return max(zip(drawn, range(1, self.count + 1), strict=True))[1] == self.number

    def of(self, markets: Iterable[Market]) -> list[Market]:
        """Return the markets of this part."""
        return [market for market in markets if self.has(market)]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def _drawn(market_id: str, number: int) -> bytes:
    return hashlib.blake2b(f"{number}:{market_id}".encode(), digest_size=8).digest()
