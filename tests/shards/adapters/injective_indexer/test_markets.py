"""Markets as an indexer lists them, in the units in which the chain would list them."""

from typing import Any

from shards.adapters.injective_indexer import markets
from shards.adapters.messages import INJECTIVE

SPOT: Any = INJECTIVE.package("injective_spot_exchange_rpc")
DERIVATIVE: Any = INJECTIVE.package("injective_derivative_exchange_rpc")


def text(number: str) -> str:
    """With eighteen decimals."""
    whole, _, fraction = number.partition(".")
    return f"{whole}.{fraction.ljust(18, '0')}"


def test_a_spot_markets_amounts_are_freed_of_the_tokens_units() -> None:
    listed = SPOT.SpotMarketInfo(
        market_id="0xa",
        ticker="AAVE/USDT",
        base_denom="peggy0x7f",
        quote_denom="peggy0xda",
        maker_fee_rate="-0.0001",
        taker_fee_rate="0.001",
        min_price_tick_size="0.000000000000001",
        min_quantity_tick_size="1000000000000000",
        min_notional="1000000",
    )
    market = markets._market(listed, "spot", "active", 18, 6)
    assert (market.status, market.base_decimals, market.quote_decimals) == ("Active", 18, 6)
    assert (market.price_tick, market.quantity_tick) == (text("0.001"), text("0.001"))
    assert market.min_notional == text("1")
    assert (market.maker_fee_rate, market.taker_fee_rate) == (text("-0.0001"), text("0.001"))
    assert (market.base_denom, market.quote_denom) == ("peggy0x7f", "peggy0xda")
    assert (market.oracle_type, market.oracle_base, market.oracle_quote) == ("", "", "")


def test_others_name_their_oracles() -> None:
    shared = {"market_id": "0xb", "ticker": "B", "quote_denom": "peggy0xda", "oracle_type": "pyth"}
    perpetual = DERIVATIVE.DerivativeMarketInfo(**shared, oracle_base="0xfeed", oracle_quote="USD")
    market = markets._market(perpetual, "derivative", "paused", 0, 6)
    assert (market.status, market.base_denom) == ("Paused", "")
    assert (market.oracle_type, market.oracle_base, market.oracle_quote) == (
        *("pyth", "0xfeed", "USD"),
    )
    option = DERIVATIVE.BinaryOptionsMarketInfo(**shared, oracle_symbol="UFC", oracle_provider="me")
    market = markets._market(option, "binary", "active", 0, 6)
    assert (market.oracle_base, market.oracle_quote) == ("UFC", "me")
