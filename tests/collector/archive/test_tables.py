"""Rows: exact amounts, one order for equal changes."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given, strategies as st

from collector.archive.sealing.seal import PLAIN
from collector.archive.storage.layout import Part, date_of, file_of, part_of, range_of
from collector.tables.rows import canonical, notional_of
from collector.tables.schema import TABLES
from shards.protocol.channels import CHANNELS

amounts = st.integers(-(10**30), 10**30)


def _text(scaled: int) -> str:
    sign, digits = ("-", str(-scaled)) if scaled < 0 else ("", str(scaled))
    digits = digits.rjust(19, "0")
    return f"{sign}{digits[:-18]}.{digits[-18:]}"


@given(amounts, st.integers(0, 10**30))
def test_notional_is_exact_or_null(price: int, quantity: int) -> None:
    with localcontext() as context:
        context.prec = 100
        exact = Decimal(_text(price)) * Decimal(_text(quantity))
        found = notional_of(_text(price), _text(quantity))
        if found is None:
            assert exact != exact.quantize(Decimal(1).scaleb(-18))
        else:
            assert Decimal(found) == exact
            assert len(found.partition(".")[2]) == 18


@pytest.mark.parametrize("rubbish", ["", "abc", "1.5", "1_0", "٣", "-", "1e5", "9" * 5_000])
def test_there_is_no_notional_of_what_is_no_amount(rubbish: str) -> None:
    assert notional_of(rubbish, _text(1)) is notional_of(_text(1), rubbish) is None


@given(st.lists(st.integers(1, 10**30), unique=True, max_size=8), st.randoms())
def test_levels_are_ordered_as_numbers(prices: list[int], random: object) -> None:
    levels = [(_text(price), "1.000000000000000000") for price in prices]
    up = [int(price.replace(".", "")) for price, _ in canonical(levels, highest_first=False)]
    assert up == sorted(prices)
    assert canonical(levels, highest_first=True) == canonical(levels, highest_first=False)[::-1]


def test_parts_are_cut_by_height_alone() -> None:
    assert part_of(148_213_777, 5_000) == Part(148_210_000, 148_214_999)
    assert part_of(0, 5_000) == Part(0, 4_999)
    path = file_of("book", date_of(1_795_824_000_000_000_000), part_of(5_000, 5_000))
    assert path == "channel=book/date=2026-11-28/part-000000005000-000000009999.parquet"
    assert range_of(path) == Part(5_000, 9_999)
    assert date_of(1_795_823_999_999_999_999) == "2026-11-27"


def test_every_channel_has_a_table_and_is_sealed() -> None:
    """A channel that is collected but not sealed would be lost in silence."""
    assert {channel.name for channel in CHANNELS} == {"book", *PLAIN}
    assert {channel.name for channel in CHANNELS} <= TABLES.keys()
