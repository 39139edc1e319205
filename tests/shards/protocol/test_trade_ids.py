"""Trades told apart by their ids: each once, in whatever order and however often they come."""

import pytest
from hypothesis import given, strategies as st

from shards.protocol.events import ZERO, Trade
from shards.protocol.trade_ids import KnownTrades, place_of


def trade(name: str) -> Trade:
    return Trade(name, "buy", ZERO, ZERO, ZERO, "Market", "", "", "")


places = st.tuples(st.integers(1, 30), st.integers(0, 70))


@given(st.lists(st.lists(places, max_size=6), max_size=30))
def test_each_is_taken_once(batches: list[list[tuple[int, int]]]) -> None:
    known, seen = KnownTrades(), set[tuple[int, int]]()
    for batch in batches:
        taken = [place_of(t) for t in known.take(trade(f"{h}_{n}") for h, n in batch)]
        assert taken == [p for i, p in enumerate(batch) if p not in seen and p not in batch[:i]]
        seen |= set(batch)


def test_what_was_not_delivered_is_forgotten() -> None:
    known = KnownTrades()
    known.take([trade("7_0"), trade("7_3")])
    known.forget([trade("7_3"), trade("9_1")])
    assert trade("7_0") in known
    assert [t.trade_id for t in known.take([trade("7_0"), trade("7_3")])] == ["7_3"]


def test_what_lies_below_the_newest_heights_counts_as_known() -> None:
    known = KnownTrades(heights=3)
    for height in (5, 9, 6, 12):
        known.take([trade(f"{height}_0")])
    assert trade("5_0") in known
    assert trade("5_1") in known
    assert trade("6_1") not in known


def test_ids_of_three_parts_differ() -> None:
    assert len({place_of(trade(name)) for name in ("8_1_0", "8_0_1", "8_1_1", "8_2_0")}) == 4


@pytest.mark.parametrize("name", ["", "8", "8_", "x_1", "8_-1", f"8_{1 << 30}"])
def test_what_is_no_id_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"id|int|unpack"):
        place_of(trade(name))
