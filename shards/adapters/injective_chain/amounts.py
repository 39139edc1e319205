"""An amount in the answer to a query: foreign text, the integer of 10^-18."""

from typing import Final

from shards.protocol.errors import SourceError

_DIGITS: Final = 100
"""More than the chain's amounts have: 315 bits are 95 digits."""


def amount_in(endpoint: str, name: str, text: str) -> str:
    """
    Return an amount's text as it is; an empty one is an absent field, so it is zero.

    Raises:
        SourceError: If it is no integer, or longer than any amount of the chain.

    """
    digits = text.removeprefix("-")
    if not text or (digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS):
        return text
    raise SourceError(endpoint, f"{name}: {text[:40]!r} is no amount")
