"""
Convert Arrow columns to Python lists from their buffers: ten times as fast as ``to_pylist``.

Each distinct text or amount is converted once. Amounts have the chain's spelling, with eighteen
decimals; a missing amount is an empty text.
"""

from decimal import Decimal
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from collector.tables.arrow import nanoseconds

_Width = Literal["b", "i", "q"]
_FORMATS: Final[dict[int, _Width]] = {1: "b", 4: "i", 8: "q"}


def as_list(array: Any) -> list[Any]:
    """
    Return a column's values.

    Amounts are texts, instants are ns since 1970 (0 if missing), levels are lists of
    ``(price, quantity)``. An amount that does not fit into the column is None inside a level.
    """
    kind = array.type
    if pa.types.is_timestamp(kind):
        return numbers(nanoseconds(array))
    if pa.types.is_int64(kind) and not array.null_count:
        return numbers(array)
    if pa.types.is_decimal(kind):
        return _by_dictionary(array, "")
    if pa.types.is_string(kind):
        return _by_dictionary(array, None)
    if pa.types.is_list(kind) and _is_level(kind.value_type):
        return _levels(array)
    if array.null_count == len(array):
        return [None] * len(array)
    return list(array.to_pylist())


def numbers(array: Any) -> list[int]:
    """Return whole numbers; 0 where there is none."""
    if array.null_count:
        array = pc.fill_null(array, 0)
    width = array.type.bit_width // 8
    values = memoryview(array.buffers()[1])[array.offset * width :][: len(array) * width]
    return values.cast(_FORMATS[width]).tolist()


def _is_level(kind: Any) -> bool:
    return bool(pa.types.is_struct(kind)) and kind.get_field_index("price") >= 0


def _by_dictionary(array: Any, absent: str | None) -> list[str | None]:
    """Look each value up among the different ones."""
    found = array.dictionary_encode()
    values = _texts(found.dictionary)
    codes = found.indices
    if codes.null_count:
        codes = pc.fill_null(codes, len(values))
        values.append(absent)
    return list(map(values.__getitem__, numbers(codes)))


def _texts(values: Any) -> list[str | None]:
    if not pa.types.is_decimal(values.type):
        return list(values.to_pylist())
    spelled = values.cast(pa.string()).to_pylist()
    # Arrow writes amounts below a millionth as 1E-18.
    return [f"{Decimal(text):f}" if "E" in text else text for text in spelled]


def _levels(array: Any) -> list[list[tuple[Any, Any]]]:
    prices, quantities = (_by_dictionary(part, None) for part in array.flatten().flatten())
    levels = list(zip(prices, quantities, strict=True))
    found, at = [], 0
    for size in numbers(pc.list_value_length(array)):
        found.append(levels[at : at + size])
        at += size
    return found
