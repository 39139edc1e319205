"""The height that an answer to a query is of: foreign text in a header."""

from collections.abc import Mapping
from typing import Final

from shards.protocol.errors import SourceError

HEIGHT: Final = "x-cosmos-block-height"
_DIGITS: Final = 18
"""So many are fewer than 2^63 has."""


def height_in(endpoint: str, answered: Mapping[str, str], default: int = 0) -> int:
    """
    Read the height that an answer is of; `default` where it names none.

    Raises:
        SourceError: If what it names is no height.

    """
    text = answered.get(HEIGHT)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
        raise SourceError(endpoint, f"{HEIGHT}: {text[:40]!r} is no height")
    return int(text)
