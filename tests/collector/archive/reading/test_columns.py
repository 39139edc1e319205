"""Arrow columns as Python lists: the values that ``to_pylist`` gives, amounts as the chain spells them."""

import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import given, strategies as st

from collector.archive.reading.columns import as_list, numbers

_DECIMAL = pa.decimal128(38, 18)
_LEVELS = pa.list_(pa.struct([("price", _DECIMAL), ("quantity", _DECIMAL)]))
_amounts = st.one_of(st.none(), st.integers(-(10**37), 10**37), st.integers(-99, 99))
_slices = st.tuples(st.integers(0, 5), st.integers(0, 40))


def _decimal(units: int | None) -> Decimal | None:
    return None if units is None else Decimal(f"{units}E-18")


def _text(units: int | None, absent: Any) -> Any:
    """Spell an amount by whole numbers alone."""
    if units is None:
        return absent
    digits = str(abs(units)).rjust(19, "0")
    return f"{'-' if units < 0 else ''}{digits[:-18]}.{digits[-18:]}"


@given(st.lists(_amounts), _slices)
def test_amounts_have_eighteen_decimals(units: list[int | None], part: tuple[int, int]) -> None:
    start, size = part
    array = pa.array([_decimal(u) for u in units], _DECIMAL).slice(start, size)
    assert as_list(array) == [_text(u, "") for u in units[start : start + size]]


@given(st.lists(st.lists(st.tuples(_amounts, _amounts), max_size=4)), _slices)
def test_levels_keep_their_order(
    rows: list[list[tuple[int | None, int | None]]], part: tuple[int, int]
) -> None:
    start, size = part
    made = [[{"price": _decimal(p), "quantity": _decimal(q)} for p, q in row] for row in rows]
    array = pa.array(made, _LEVELS).slice(start, size)
    expected = [[(_text(p, None), _text(q, None)) for p, q in row] for row in rows]
    assert as_list(array) == expected[start : start + size]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))), _slices)
def test_numbers_and_instants(values: list[int | None], part: tuple[int, int]) -> None:
    start, size = part
    array, wanted = pa.array(values, pa.int64()).slice(start, size), values[start : start + size]
    assert as_list(array) == wanted
    assert numbers(array) == as_list(array.cast(pa.timestamp("ns"))) == [v or 0 for v in wanted]


@given(st.lists(st.one_of(st.none(), st.text())), _slices)
def test_texts(values: list[str | None], part: tuple[int, int]) -> None:
    start, size = part
    array = pa.array(values, pa.string()).slice(start, size)
    assert as_list(array) == values[start : start + size]


def test_all_else_is_as_arrow_gives_it() -> None:
    flags = pa.array([True, None, False])
    notes = pa.array([None, [{"column": "fee", "text": "1"}]])
    days = pa.array([datetime.date(2026, 11, 28)])
    for array in (flags, notes, days, pa.nulls(3)):
        assert as_list(array) == array.to_pylist()
