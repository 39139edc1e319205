"""
Text that others made: tickers, the words of nodes, what an order's owner called it.

`symbol_of` makes a topic's name of it, in an alphabet where nothing means anything to anybody.
`printable` makes it fit to be shown: on a terminal some characters are commands, others turn
the line around. `without_secrets` leaves out what an endpoint's URL has of keys and passwords.
"""

import functools
import hashlib
import re
import unicodedata
from typing import Final

SYMBOL_MOST: Final = 160
"""Characters of a symbol; a longer name is cut to half of that, which leaves room for what makes
it unique. So a symbol is its own symbol."""
RESERVED: Final = frozenset(("chain",))
"""Symbols that stand for something else than a market or an oracle's price."""

_is_plain: Final = re.compile(rf"[A-Za-z0-9_+$:-]{{1,{SYMBOL_MOST}}}").fullmatch
_foreign: Final = re.compile(r"[^A-Za-z0-9_+$:-]+")
_RIGHT_TO_LEFT: Final = frozenset(("R", "AL"))


@functools.lru_cache(4_096)
def symbol_of(name: str) -> str:
    """
    Spell a ticker, or an oracle's symbol, as topics do: ``BTC/USDT PERP`` is ``BTC-USDT-PERP``.

    Slashes and blanks become dashes. A symbol has letters, digits and ``- _ + $ :`` only, so it
    holds no dot (topics are subscribed to by prefix), no mark of a glob, and nothing that a
    terminal obeys. A name that cannot be spelled so has the rest replaced by dashes and its hash
    behind it: ``INJ/USDT.`` is ``INJ-USDT-eb0e4389``.
    """
    plain = "-".join(name.replace("/", " ").split())
    if _is_plain(plain) and plain not in RESERVED:
        return plain
    left = _foreign.sub("-", plain)[: SYMBOL_MOST // 2].strip("-")
    mark = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{left or 'unnamed'}-{mark}"


def is_ordinary(name: str) -> bool:
    """Whether a ticker is spelled as its symbol says, without stray blanks or other characters."""
    return name == " ".join(name.split()) and " /" not in name and "/ " not in name


def printable(text: str, most: int = 1_000) -> str:
    """
    Return a text on one line as it can be shown; what cannot be shown stands there by its number.

    Escapes, line ends, marks of direction and letters written from right to left are such:
    they move what stands beside them.
    """
    if text.isascii() and text.isprintable() and len(text) <= most:
        return text
    shown = "".join(map(_shown, text[:most]))
    return shown + "…" if len(text) > most else shown


def stays_in_place(character: str) -> bool:
    """Whether a character is shown, and moves nothing that stands beside it."""
    return character.isprintable() and unicodedata.bidirectional(character) not in _RIGHT_TO_LEFT


def _shown(character: str) -> str:
    if stays_in_place(character):
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


_url: Final = re.compile(r"\b(?:https?|wss?|socks[45]h?)://[^\s'\"<>]+", re.IGNORECASE)
_userinfo: Final = re.compile(r"//[^/?#]*@")
_query_value: Final = re.compile(r"(?<==)[^&#]+?(?=[&#]|[:;,.)\]]*$)")
_path_key: Final = re.compile(r"(?<=[^/]/)(?=[^/?#]*[0-9])[A-Za-z0-9_~.-]{16,}(?=[/?#:;,)]|$)")


def without_secrets(text: str) -> str:
    """
    Return a text with the secrets of its URLs left out: ``https://***@host/***?apikey=***``.

    Secret are user and password, the values of a query, and what is long and has digits in a
    path, as providers of nodes put their keys there.
    """
    return _url.sub(lambda found: _bare(found[0]), text) if "://" in text else text


def _bare(url: str) -> str:
    before, mark, query = _userinfo.sub("//***@", url).partition("?")
    return _path_key.sub("***", before) + mark + _query_value.sub("***", query)
