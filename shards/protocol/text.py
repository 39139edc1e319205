"""
Foreign text: tickers, nodes' messages, client order ids.

`symbol_of` turns it into a topic name, in an alphabet without special characters. `printable`
makes it safe to display: terminals execute some characters, and others reverse the direction of
the line. `without_secrets` removes keys and passwords from URLs.
"""

import functools
import hashlib
import re
import unicodedata
from typing import Final

SYMBOL_MOST: Final = 160
"""Longest symbol. A longer name is cut to half of this, which leaves room for the hash that makes
it unique. The symbol of a symbol is therefore the symbol itself."""
RESERVED: Final = frozenset(("chain",))
"""Symbols that mean something other than a market or an oracle's price."""

_is_plain: Final = re.compile(rf"[A-Za-z0-9_+$:-]{{1,{SYMBOL_MOST}}}").fullmatch
_foreign: Final = re.compile(r"[^A-Za-z0-9_+$:-]+")
_RIGHT_TO_LEFT: Final = frozenset(("R", "AL"))


@functools.lru_cache(4_096)
def symbol_of(name: str) -> str:
    """
    Spell a ticker, or an oracle's symbol, as topics do: ``BTC/USDT PERP`` is ``BTC-USDT-PERP``.

    Slashes and blanks become dashes. A symbol contains only letters, digits and ``- _ + $ :``: no
    dot (topics are subscribed to by prefix), no glob character, no terminal control character. In
    other names the remaining characters become dashes and a hash is appended:
    ``INJ/USDT.`` is ``INJ-USDT-eb0e4389``.
    """
    plain = "-".join(name.replace("/", " ").split())
    if _is_plain(plain) and plain not in RESERVED:
        return plain
    left = _foreign.sub("-", plain)[: SYMBOL_MOST // 2].strip("-")
    mark = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{left or 'unnamed'}-{mark}"


def is_ordinary(name: str) -> bool:
    """Whether a ticker matches its symbol, without stray blanks or other characters."""
    return name == " ".join(name.split()) and " /" not in name and "/ " not in name


def printable(text: str, most: int = 1_000) -> str:
    """
    Return a text as one displayable line; other characters are replaced by their code points.

    Escapes, line ends, direction marks and right-to-left letters are replaced, because they move
    the text next to them.
    """
    if text.isascii() and text.isprintable() and len(text) <= most:
        return text
    shown = "".join(map(_shown, text[:most]))
    return shown + "…" if len(text) > most else shown


def stays_in_place(character: str) -> bool:
    """Whether a character is visible and does not move the text next to it."""
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
    Return a text with the secrets in its URLs masked: ``https://***@host/***?apikey=***``.

    Secrets are user and password, the values of a query, and long path segments with digits,
    because node providers put API keys there.
    """
    return _url.sub(lambda found: _bare(found[0]), text) if "://" in text else text


def _bare(url: str) -> str:
    before, mark, query = _userinfo.sub("//***@", url).partition("?")
    return _path_key.sub("***", before) + mark + _query_value.sub("***", query)
