"""Which topics patterns and channels stand for, those of the chain itself among them."""

from collections import deque

import pytest

from collector.client.market_status import MarketStatus
from collector.client.subscriber import Subscriber
from collector.client.topic_filter import Wanted, known_symbols
from shards.protocol.frames import topic
from shards.protocol.text import symbol_of

MARKETS = [MarketStatus(market_id="0xa", symbol="INJ-USDT")]


def test_blocks_are_wanted_whatever_the_markets_are() -> None:
    for markets in (("*",), ("INJ*",), ("INJ-USDT",)):
        wanted = Wanted(markets, ["book", "blocks", "gap"])
        assert wanted.matches("blocks.chain.")
        assert wanted.matches("gap.chain.")
        assert any("blocks.chain.".startswith(prefix) for prefix in wanted.subscriptions())
        assert any("blocks.chain.".startswith(prefix) for prefix in wanted.prefixes())
    assert not Wanted(["INJ-USDT"], ["book", "gap"]).matches("gap.chain.")
    assert "blocks.INJ-USDT." not in Wanted(["INJ-USDT"], ["blocks"]).subscriptions()


def test_an_oracles_symbol_is_matched_like_a_markets() -> None:
    wanted = Wanted(["BTC"], ["oracle"])
    assert wanted.matches("oracle.BTC.")
    assert not wanted.matches("oracle.ETH.")
    assert known_symbols(["BTC/USD"], MARKETS, strict=False) == ["BTC-USD"]
    with pytest.raises(ValueError, match="no market matches 'BTC/USD'"):
        known_symbols(["BTC/USD"], MARKETS)


@pytest.mark.parametrize(
    "ticker", ["A[1]/USDT", "A*/USDT", "INJ/USDT.", "\x1b[31m/USDT", "x" * 200]
)
def test_a_listed_name_is_found_whatever_is_in_it(ticker: str) -> None:
    symbol = symbol_of(ticker)
    listed = [*MARKETS, MarketStatus(market_id="0xb", symbol=symbol, ticker=ticker)]
    assert known_symbols([ticker], listed) == known_symbols([symbol], listed) == [symbol]
    assert known_symbols(["0xB"], listed) == [symbol]
    assert Wanted([symbol], ["book"]).matches(topic("book", symbol))


def test_a_ticker_of_several_markets_means_all_of_them() -> None:
    twins = [MarketStatus(market_id=f"0x{n}", symbol=f"A-B-{n}", ticker="A/B") for n in (1, 2)]
    assert known_symbols(["A/B"], twins) == ["A-B-1", "A-B-2"]


def test_one_name_is_not_a_list_of_letters() -> None:
    wanted = Wanted("INJ-USDT", "book")
    assert wanted.exact == ("book.INJ-USDT.",)
    assert wanted.subscriptions() == ("book.INJ-USDT.",)
    assert known_symbols("INJ-USDT", MARKETS) == ["INJ-USDT"]
    assert Subscriber(markets="INJ/USDT", channels="trades").inbox.subscriptions == deque(
        ["trades.INJ-USDT."]
    )
    with pytest.raises(ValueError, match="unknown channel 'boo'"):
        Subscriber(channels="boo")


def test_names_match_in_any_case_where_they_have_small_letters() -> None:
    wanted = Wanted(["inj-usdt", "stINJ*"], ["book"])
    assert wanted.matches("book.INJ-USDT.")
    assert wanted.matches("book.stINJ-USDT.")
    assert wanted.matches("book.STINJ-USDT.")
    assert not wanted.matches("book.INJ-USDT-PERP.")
    assert not Wanted(["STINJ-USDT"], ["book"]).matches("book.stINJ-USDT.")
    known = [MarketStatus(symbol="INJ-USDT", market_id="0x1")]
    assert known_symbols(["inj/usdt"], known) == ["INJ-USDT"]


def test_what_matches_nothing_is_named() -> None:
    topics = ["book.INJ-USDT.", "book.BTC-USDT."]
    wanted = Wanted(["INJ-USDT", "NOSUCH", "eth*", "btc*"], ["book"])
    assert wanted.unmatched(topics) == ("NOSUCH", "eth*")
    assert Wanted(["*"], ["book"]).unmatched([]) == ()
    assert Wanted(["NOSUCH"], ["blocks"]).unmatched(["blocks.chain."]) == ()
