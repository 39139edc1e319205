"""Which topics patterns and channels stand for, those of the chain itself among them."""

import pytest

from collector.client.topic_filter import Wanted, known_symbols

MARKETS = [{"market_id": "0xa", "symbol": "INJ-USDT"}]


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
