"""Which markets a name, a glob or an id means."""

import pytest
from hypothesis import given, strategies as st

from collector.markets.selection import choose, with_symbols
from shards.protocol.errors import ConfigError
from shards.protocol.frames import topic
from shards.protocol.settings import Market, MarketType
from shards.protocol.text import symbol_of


def market(n: int, ticker: str, kind: MarketType = "spot", status: str = "Active") -> Market:
    return Market(f"0x{n:08x}" + "0" * 56, ticker, "", kind, status)


MARKETS = with_symbols(
    [
        market(0xA1, "INJ/USDT"),
        market(0xA2, "BTC/USDT"),
        market(0xA3, "BTC/USDT PERP", "derivative"),
        market(0xA4, "INJ/USDT PERP", "derivative"),
        market(0xA5, "stINJ/INJ"),
        market(0xA6, "OLD/USDT", status="Paused"),
        market(0xB1, "TWIN/USDT"),
        market(0xB2, "TWIN/USDT"),
        market(0xC1, "UFC-1 2026", "binary"),
    ]
)


@pytest.mark.parametrize(
    ("ticker", "symbol"),
    [
        ("INJ/USDT", "INJ-USDT"),
        ("BTC/USDT PERP", "BTC-USDT-PERP"),
        ("  BTC / USDT  PERP ", "BTC-USDT-PERP"),
        ("stINJ/INJ", "stINJ-INJ"),
    ],
)
def test_a_symbol_is_the_ticker_with_dashes(ticker: str, symbol: str) -> None:
    assert symbol_of(ticker) == symbol


def test_markets_of_one_ticker_all_get_the_first_bytes_of_their_ids() -> None:
    symbols = [m.symbol for m in MARKETS]
    assert symbols[:4] == ["INJ-USDT", "BTC-USDT", "BTC-USDT-PERP", "INJ-USDT-PERP"]
    assert symbols[6:8] == ["TWIN-USDT-000000b1", "TWIN-USDT-000000b2"]
    assert len(set(symbols)) == len(symbols)


def test_tickers_that_differ_only_in_spelling_clash_too() -> None:
    named = with_symbols([market(1, "A/B"), market(2, "A B")])
    assert [m.symbol for m in named] == ["A-B-00000001", "A-B-00000002"]


@pytest.mark.parametrize(
    ("patterns", "types", "chosen"),
    [
        ([], [], ["A1", "A2", "A3", "A4", "A5", "B1", "B2", "C1"]),
        ([], ["derivative"], ["A3", "A4"]),
        ([], ["derivative", "binary"], ["A3", "A4", "C1"]),
        (["INJ/USDT"], [], ["A1"]),
        (["INJ-USDT"], [], ["A1"]),
        (["inj-usdt"], [], ["A1"]),
        (["INJ*"], [], ["A1", "A4"]),
        (["inj*"], [], ["A1", "A4"]),
        (["*/USDT"], [], ["A1", "A2", "A6", "B1", "B2"]),
        (["*-PERP", "INJ/USDT"], [], ["A1", "A3", "A4"]),
        (["*"], ["spot"], ["A1", "A2", "A5", "A6", "B1", "B2"]),
        (["TWIN/USDT"], [], ["B1", "B2"]),
        (["TWIN-USDT-000000b2"], [], ["B2"]),
        (["0x000000a5" + "0" * 56], [], ["A5"]),
        (["0x000000A5" + "0" * 56], [], ["A5"]),
        (["OLD/USDT"], [], ["A6"]),
        (["stINJ*"], [], ["A5"]),
        (["[BI]??/USDT"], [], ["A1", "A2"]),
    ],
)
def test_a_choice_is(patterns: list[str], types: list[str], chosen: list[str]) -> None:
    ids = [f"{int(m.market_id[2:10], 16):X}" for m in choose(MARKETS, patterns, types)]
    assert ids == chosen


def test_what_is_written_exactly_is_not_widened_by_ignoring_case() -> None:
    markets = with_symbols([market(1, "INJ/USDT"), market(2, "inj/USDT")])
    assert [m.market_id[9] for m in choose(markets, ["INJ/USDT"])] == ["1"]
    assert [m.market_id[9] for m in choose(markets, ["Inj/USDT"])] == ["1", "2"]


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("INJ/USDC", "did you mean .*INJ-USDT"),
        ("btc-usd-perp", "did you mean BTC-USDT-PERP"),
        ("zzzzzzzz", "no market matches 'zzzzzzzz': 'collector markets' lists the 9 there are"),
    ],
)
def test_a_pattern_that_matches_nothing_is_answered_with_what_is_close(
    pattern: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=hint):
        choose(MARKETS, ["INJ/USDT", pattern])


def test_one_pattern_of_several_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no market matches 'NOPE"):
        choose(MARKETS, ["INJ*", "NOPE*"])


def test_a_type_that_no_market_has_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no market of type binary: the network has 1 market"):
        choose(MARKETS[:1], types=["binary"])


def test_a_network_without_markets_says_so() -> None:
    with pytest.raises(ConfigError, match="the network has 0 markets"):
        choose([])


def test_a_network_where_nothing_is_active_says_so() -> None:
    with pytest.raises(ConfigError, match="no market is active"):
        choose([market(1, "OLD/USDT", status="Paused")])


_TICKERS = st.text("AB/ .[*\x1b\u202eж", max_size=4) | st.sampled_from(
    ["INJ/USDT", "INJ/USDT.", "INJ/USDT ", "INJ USDT", "INJ/USDT 00000001", "A-B-00000002", "chain"]
)


@given(st.lists(_TICKERS, max_size=12), st.integers(0, 12))
def test_symbols_are_unique_and_stay(tickers: list[str], old: int) -> None:
    markets = [market(n, ticker) for n, ticker in enumerate(tickers)]
    before = {m.market_id: m.symbol for m in with_symbols(markets[:old])}
    named = with_symbols(markets, before)
    assert [m.market_id for m in named] == [m.market_id for m in markets]
    symbols = [m.symbol for m in named]
    assert len(set(symbols)) == len(symbols)
    topics = [topic("book", symbol) for symbol in symbols]
    assert not any(a is not b and b.startswith(a) for a in topics for b in topics)
    assert all(m.symbol == before.get(m.market_id, m.symbol) for m in named)


@pytest.mark.parametrize(
    "twin", ["INJ/USDT.", "INJ/USDT ", " INJ/USDT", "INJ/ USDT", "INJ/USDT\u200f"]
)
def test_nobody_takes_a_markets_symbol_by_nearly_its_name(twin: str) -> None:
    for pair in (
        [market(1, "INJ/USDT"), market(2, twin)],
        [market(2, twin), market(1, "INJ/USDT")],
    ):
        symbols = {m.ticker: m.symbol for m in with_symbols(pair)}
        assert symbols["INJ/USDT"] == "INJ-USDT"
        assert symbols[twin].startswith("INJ-USDT-")


@pytest.mark.parametrize("ticker", ["A[1]/USDT", "A*/USDT", "INJ/USDT.", "\x1b[31m/USDT"])
def test_a_name_is_taken_as_a_name_before_it_is_a_pattern(ticker: str) -> None:
    markets = with_symbols([market(1, ticker), market(2, "A1/USDT"), market(3, "INJ/USDT")])
    assert [m.ticker for m in choose(markets, [ticker])] == [ticker]
    assert [m.ticker for m in choose(markets, [markets[0].symbol])] == [ticker]
