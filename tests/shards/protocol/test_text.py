"""Text that others made: what becomes of it in topics, and where it is shown."""

import fnmatch
import re
import unicodedata

import pytest
from hypothesis import given, strategies as st

from shards.protocol.frames import topic
from shards.protocol.text import printable, symbol_of

_ALPHABET = re.compile(r"[A-Za-z0-9_+$:-]+")
# Characters that have meant something to somebody, and a few that have not.
NAMES = st.text(
    "ABab01/ .[]*?!-_\x00\x1b\n\r\x9b\u200f\u202e\u0627אДж一é'\"\\", max_size=12
) | st.text(max_size=250)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("INJ/USDT", "INJ-USDT"),
        ("BTC/USDT PERP", "BTC-USDT-PERP"),
        ("stINJ/INJ", "stINJ-INJ"),
        ("UFC-1 2026", "UFC-1-2026"),
        ("0x" + "a5" * 32, "0x" + "a5" * 32),
    ],
)
def test_ordinary_names_are_spelled_as_ever(name: str, symbol: str) -> None:
    assert symbol_of(name) == symbol


@pytest.mark.parametrize(
    "name",
    [
        "INJ/USDT.",
        "A[1]/USDT",
        "INJ*",
        "\x1b[2J",
        "\u202eTDSU",
        "אבג",
        "ж/USDT",
        "x" * 200,
        "",
        "chain",
    ],
)
def test_others_get_a_mark(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_+$:-]{1,80}-[0-9a-f]{8}", symbol_of(name))


@given(NAMES)
def test_a_symbol_means_nothing_to_anybody(name: str) -> None:
    symbol = symbol_of(name)
    assert _ALPHABET.fullmatch(symbol)
    assert len(symbol) <= 160
    assert symbol_of(symbol) == symbol
    assert symbol != "chain"
    assert fnmatch.translate(symbol) == fnmatch.translate("x").replace("x", re.escape(symbol))


@given(NAMES, NAMES)
def test_no_topic_is_the_beginning_of_another(one: str, other: str) -> None:
    first, second = topic("book", symbol_of(one)), topic("book", symbol_of(other))
    assert first == second or not second.startswith(first)


@given(NAMES)
def test_what_is_shown_stays_on_its_line_and_moves_nothing(name: str) -> None:
    shown = printable(name)
    assert shown.isprintable()
    assert not {unicodedata.bidirectional(c) for c in shown} & {"R", "AL", "RLE", "RLO", "RLI"}
    assert printable(shown) == shown


def test_what_cannot_be_shown_is_named() -> None:
    assert printable("a\x1b[2Jb\n\u202ec") == "a\\x1b[2Jb\\x0a\\u202ec"
    assert printable("x" * 50, 40) == "x" * 40 + "…"
    assert printable("Перп é") == "Перп é"
