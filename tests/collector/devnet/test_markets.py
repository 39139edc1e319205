"""The market table is the same for the same numbers, and has what trips readers of tickers."""

from collections import Counter
from decimal import Decimal

import pytest

from collector.devnet.markets import market_table


def test_same_seed_gives_the_same_markets_and_another_seed_other_prices():
    assert market_table(spot=12, perp=4, seed=7) == market_table(spot=12, perp=4, seed=7)
    assert market_table(spot=12, perp=4, seed=7) != market_table(spot=12, perp=4, seed=8)


@pytest.mark.parametrize(("spot", "perp"), [(0, 0), (1, 0), (0, 1), (12, 4), (200, 80)])
def test_every_market_has_an_id_of_its_own_in_the_form_the_chain_accepts(spot, perp):
    markets = market_table(spot=spot, perp=perp)
    ids = {market.market_id for market in markets}
    assert len(ids) == len(markets) == spot + perp
    assert all(
        len(i) == 66 and i[:2] == "0x" and set(i[2:]) <= set("0123456789abcdef") for i in ids
    )
    assert [m.type for m in markets] == ["spot"] * spot + ["derivative"] * perp


def test_pairs_of_denominations_are_unique_too():
    """The chain derives a spot market's identity from them; two markets cannot share them."""
    markets = [m for m in market_table(spot=200, perp=0) if m.type == "spot"]
    assert len({(m.base, m.quote) for m in markets}) == 200


def test_the_default_table_has_awkward_tickers():
    tickers = [market.ticker for market in market_table(spot=12, perp=4)]
    assert max(Counter(tickers).values()) == 2
    assert any(ticker.split("/")[1] == ticker.split("/")[1].lower() for ticker in tickers)
    assert any(len(ticker) > 30 for ticker in tickers)
    assert {"INJ/USDT", "BTC/USDT PERP"} <= set(tickers)


def test_decimals_and_ticks_differ():
    markets = market_table(spot=12, perp=4)
    decimals = {(m.base_decimals, m.quote_decimals) for m in markets if m.type == "spot"}
    assert {(18, 6), (8, 6), (6, 6)} <= decimals
    assert len({m.price_tick for m in markets}) > 3
    assert len({m.quantity_tick for m in markets}) > 3


def test_ticks_fit_into_the_chains_decimals():
    """The chain keeps 18 decimals of a price in the tokens' smallest units."""
    for market in market_table(spot=200, perp=80):
        power = market.quote_decimals - market.base_decimals
        assert market.price_tick.scaleb(power) >= Decimal("1e-18")
        assert market.quantity_tick.scaleb(market.base_decimals) >= (market.type == "spot")


def test_the_last_markets_are_the_quiet_ones():
    markets = market_table(spot=3, perp=2, quiet=3)
    assert [market.quiet for market in markets] == [False, False, True, True, True]


def test_the_markets_before_the_quiet_ones_are_paused():
    markets = market_table(spot=3, perp=2, quiet=2, paused=1)
    assert [market.paused for market in markets] == [False, False, True, False, False]
    assert [market.quiet for market in markets] == [False, False, False, True, True]
