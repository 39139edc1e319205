"""Rights: what a subscription and a pattern have in common, judged by single topics."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given, strategies as st

from collector.access.rights import Rights
from shards.protocol.frames import KIND_BY_CHANNEL, topic

SYMBOLS = ("INJ-USDT", "INJ-USDT-PERP", "INJ", "BTC-USDT", "chain")
TOPICS = [topic(channel, symbol) for channel in KIND_BY_CHANNEL for symbol in SYMBOLS]
PATTERNS = [
    "*", "*.*", "*.INJ-USDT", "*.INJ*", *(f"{c}.{s}" for c in ("book", "trades", "gap")
    for s in ("*", "INJ*", "INJ-USDT", "INJ", "BTC*", "chain")),
]  # fmt: skip


def allowed(name: str, patterns: list[str]) -> bool:
    """What people mean by the patterns: globs over names without the last dot."""
    return any(pattern == "*" or fnmatchcase(name[:-1], pattern) for pattern in patterns)


@given(st.lists(st.sampled_from(PATTERNS), max_size=4))
def test_a_topic_may_be_read_if_a_pattern_matches_it(patterns: list[str]) -> None:
    rights = Rights(patterns)
    assert [t for t in TOPICS if rights.may_read(t)] == [t for t in TOPICS if allowed(t, patterns)]


@given(st.lists(st.sampled_from(PATTERNS), max_size=4), st.sampled_from(TOPICS), st.integers(0, 30))
def test_a_subscription_is_granted_what_is_wanted_and_allowed(
    patterns: list[str], name: str, length: int
) -> None:
    wanted = name[:length].encode()
    granted = Rights(patterns).granted(wanted)
    sent = [t for t in TOPICS if t.encode().startswith(granted)] if granted else []
    assert sent == [t for t in TOPICS if t.encode().startswith(wanted) and allowed(t, patterns)]


@given(st.binary(max_size=12))
def test_whatever_is_subscribed_to_grants_nothing_beyond_the_rights(wanted: bytes) -> None:
    for prefix in Rights(["trades.*"]).granted(wanted):
        assert prefix.startswith(b"trades.")


def test_a_ticker_is_a_symbol() -> None:
    assert Rights(["book.BTC/USDT PERP"]).prefixes == ("book.BTC-USDT-PERP.",)
    assert Rights(["book.BTC/USDT*"]).prefixes == ("book.BTC-USDT",)


@pytest.mark.parametrize(
    "pattern",
    ["", "trades", "trades.", "boo.*", "book.*-PERP", "book.I?J", "**", "Book.*", ".", "*."],
)
def test_what_cannot_be_a_prefix_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is no pattern of topics"):
        Rights([pattern])


def test_a_market_is_seen_if_anything_of_it_may_be_read() -> None:
    rights = Rights(["trades.INJ-USDT", "gap.BTC*"])
    assert rights.may_see("INJ-USDT")
    assert rights.may_see("BTC-USDT")
    assert not rights.may_see("INJ")
