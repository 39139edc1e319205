"""
Rows to Arrow and Parquet. It loads pyarrow, so it is imported only where that is needed.

Amounts become DECIMAL(38, 18) from their texts, exactly. One of more than twenty integer digits
becomes null, and so does a text that is no amount; its column and text stand in the column ``overflow``.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from collector.tables.schema import Column, Row, Table

Decimals: TypeAlias = Literal["exact", "float", "text"]
"""Amounts as DECIMAL(38, 18), as float64, or as the chain's texts with 18 decimals."""

DECIMAL: Final = pa.decimal128(38, 18)
"""Of every amount."""
_LEVELS: Final = pa.list_(pa.struct([("price", DECIMAL), ("quantity", DECIMAL)]))
_RANGES: Final = pa.list_(pa.struct([("first", pa.int64()), ("last", pa.int64())]))
_OVERFLOW: Final = pa.list_(pa.struct([("column", pa.string()), ("text", pa.string())]))
_TYPES: Final = {
    "text": pa.string(),
    "int": pa.int64(),
    # Naive: zoned ones are cut to microseconds by DuckDB 1.
    "time": pa.timestamp("ns"),
    "arrival": pa.timestamp("us"),
    "decimal": DECIMAL,
    "bool": pa.bool_(),
    "levels": _LEVELS,
    "ranges": _RANGES,
}
_NS_PER_US: Final = 1000
_AMOUNT: Final = r"^-?(0|[1-9][0-9]{0,19})\.[0-9]{18}$"
"""As the chain spells an amount that fits. Of some other texts Arrow makes wrong numbers, without a word."""
_WHOLES, _DECIMALS, _DIGITS = 20, 18, b"0123456789"
"""Of an amount that fits: the most digits before its point, those after it."""
ROW_GROUP: Final = 32_768
_INSTANTS: Final = ("time", "arrival")
_NUMBERS: Final = ("int", *_INSTANTS)
_ZSTD: Final = 4
"""Level 6 makes a file 1.6 % smaller, in a third more time."""
_ZSTD_PLAIN: Final = 5
"""Of amounts outside of a dictionary: a tenth smaller than level 4, which has no lazy matching."""
_MANY_MARKETS: Final = 8
"""In a row group, from which on prices are no longer in a dictionary."""
_REPEATED: Final = 5
"""Rows with the same instant, from which on a dictionary is shorter."""


def schema_of(table: Table) -> pa.Schema:
    """Return a table's Arrow schema; ``overflow`` is its last column."""
    fields = [pa.field(column.name, _TYPES[column.type]) for column in table.columns]
    return pa.schema([*fields, pa.field("overflow", _OVERFLOW)])


_Overflow: TypeAlias = dict[int, list[dict[str, str]]]
"""Amounts that do not fit, by row."""


def batch_of(table: Table, rows: Sequence[Row]) -> tuple[pa.RecordBatch, int]:
    """Make a batch of rows; say how many values did not fit."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(table.columns)
    return batch_of_columns(table, columns)


def batch_of_columns(table: Table, columns: Sequence[Any]) -> tuple[pa.RecordBatch, int]:
    """
    Make a batch of columns of equal length; say how many values did not fit.

    A column of levels may be an Arrow array already.
    """
    overflow: _Overflow = {}
    arrays = [
        _array(column, values, overflow)
        for column, values in zip(table.columns, columns, strict=True)
    ]
    count = len(columns[0])
    notes = overflow and pa.array([overflow.get(i) for i in range(count)], _OVERFLOW)
    arrays.append(notes or pa.nulls(count, _OVERFLOW))
    return pa.record_batch(arrays, schema=schema_of(table)), sum(map(len, overflow.values()))


def _array(column: Column, values: Sequence[Any], overflow: _Overflow) -> pa.Array:
    match column.type:
        case "decimal":
            return _decimals(column.name, values, range(len(values)), overflow)
        case "levels":
            is_made = isinstance(values, pa.Array)
            return values if is_made else _levels(column.name, values, overflow)
        case "ranges":
            pairs = [[{"first": a, "last": b} for a, b in ranges] for ranges in values]
            return pa.array(pairs, _RANGES)
        case "time":
            return pa.array(values, pa.int64()).cast(_TYPES["time"])
        case "arrival":
            return pc.divide(pa.array(values, pa.int64()), _NS_PER_US).cast(_TYPES["arrival"])
        case "text" if values and values.count(values[0]) == len(values):
            # Of one market, and mostly of one source: a text need not be read for each row.
            return pa.repeat(pa.scalar(values[0], pa.string()), len(values))
        case _:
            return pa.array(values, _TYPES[column.type])


def nanoseconds(instants: Any) -> Any:
    """Return an array of instants, of whichever unit, as whole nanoseconds since 1970."""
    numbers = instants.cast(pa.int64())
    return numbers if instants.type.unit == "ns" else pc.multiply(numbers, _NS_PER_US)


def _decimals(
    name: str, texts: Sequence[str | None], rows: Iterable[int], overflow: _Overflow
) -> pa.Array:
    """Make amounts of texts; ``rows`` says in which row each one is."""
    # Many are equal, and reading a number takes longer than looking it up.
    found = pa.array(texts, pa.string()).dictionary_encode()
    different = found.dictionary.to_pylist()
    if "" in different and "." not in name:
        # Absent; a level always has both of its amounts.
        return _decimals(name, [text or None for text in texts], rows, overflow)
    amounts = amounts_of(found.dictionary)
    if amounts is not None:
        return amounts.take(found.indices)
    unfit = {text for text in different if amounts_of(pa.array([text])) is None}
    for text, row in zip(texts, rows, strict=True):
        if text is not None and text in unfit:
            overflow.setdefault(row, []).append({"column": name, "text": text})
    return pa.array([None if t in unfit else t for t in texts], pa.string()).cast(DECIMAL)


def amounts_of(texts: pa.Array) -> pa.Array | None:
    """Return texts as amounts; None if one is not spelled as an amount, or does not fit."""
    if _are_plain(texts) or pc.all(pc.match_substring_regex(texts, _AMOUNT), min_count=0).as_py():
        return texts.cast(DECIMAL)
    return None


def _are_plain(texts: pa.Array) -> bool:
    """
    Say whether all are surely spelled as amounts, and none is negative.

    It is `_AMOUNT` in a third of its time, which is longer than that of the cast.
    """
    if texts.offset or texts.null_count or not len(texts):
        return False
    # Where each has a point, and there are no more marks than texts, all others are digits.
    marks = texts.buffers()[2].to_pybytes().translate(None, _DIGITS)
    if len(marks) != len(texts):
        return False
    wholes = pc.find_substring(texts, ".")
    few, many = pc.min_max(wholes).as_py().values()
    decimals = pc.min_max(pc.subtract(pc.binary_length(texts), wholes)).as_py()
    if few < 1 or many > _WHOLES or set(decimals.values()) != {1 + _DECIMALS}:
        return False
    return not pc.any(pc.and_(pc.starts_with(texts, "0"), pc.greater(wholes, 1))).as_py()


def _levels(name: str, values: Sequence[Any], overflow: _Overflow) -> pa.Array:
    # Iterators in C: there are some seven levels in a row.
    flat = list(chain.from_iterable(chain.from_iterable(values)))
    sizes = list(map(len, values))
    offsets = pa.array([0, *itertools.accumulate(sizes)], pa.int32())
    return levels_of(
        offsets,
        _decimals(f"{name}.price", flat[::2], _rows_of_levels(sizes), overflow),
        _decimals(f"{name}.quantity", flat[1::2], _rows_of_levels(sizes), overflow),
    )


def levels_of(offsets: pa.Array, prices: pa.Array, quantities: pa.Array) -> pa.Array:
    """Make a column of one side of a book: where each row's levels begin, and all levels' amounts."""
    struct = pa.StructArray.from_arrays([prices, quantities], ["price", "quantity"])
    return pa.ListArray.from_arrays(offsets, struct, type=_LEVELS)


def _rows_of_levels(sizes: Sequence[int]) -> Iterator[int]:
    return chain.from_iterable(map(itertools.repeat, itertools.count(), sizes))


def converted(table: pa.Table, decimals: Decimals) -> pa.Table:
    """Return a table with its amounts in another form."""
    if decimals == "exact":
        return table
    columns = [_converted(column.combine_chunks(), decimals) for column in table.columns]
    return pa.table(columns, names=table.column_names)


def _converted(array: pa.Array, decimals: Decimals) -> pa.Array:
    kind = array.type
    if kind == DECIMAL:
        return array.cast(pa.float64()) if decimals == "float" else _texts(array)
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        # Only what the offsets of this array name.
        values = array.flatten()
        fields = [_converted(part, decimals) for part in values.flatten()]
        names = [field.name for field in kind.value_type]
        structs = pa.StructArray.from_arrays(fields, names)
        sizes = pc.fill_null(pc.list_value_length(array), 0)
        offsets = pa.array([0, *pc.cumulative_sum(sizes).to_pylist()], pa.int32())
        return pa.ListArray.from_arrays(offsets, structs, mask=array.is_null())
    return array


def _texts(array: pa.Array) -> pa.Array:
    """Spell amounts as the chain does, always with 18 decimals; Arrow would write ``0E-18``."""
    found = array.dictionary_encode()
    texts = [None if value is None else f"{value:f}" for value in found.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(found.indices, pa.array(texts, pa.string())).cast(
        pa.string()
    )


def rows_from(table: Table, batch: pa.RecordBatch) -> Iterator[Row]:
    """Return the rows that a batch was made of (`batch_of`)."""
    columns = [
        _plain(column, array) for column, array in zip(table.columns, batch.columns, strict=False)
    ]
    overflows = batch.column(len(table.columns)).to_pylist()
    for row, notes in zip(zip(*columns, strict=True), overflows, strict=True):
        yield _put_back(table, row, notes) if notes else row


def _plain(column: Column, array: pa.Array) -> list[Any]:
    match column.type:
        case "decimal":
            # An unknown amount is null; an absent one is the empty text.
            absent = None if column.name == "notional" else ""
            return [absent if text is None else text for text in _texts(array).to_pylist()]
        case "levels":
            values = array.flatten()
            pairs = zip(*(_texts(part).to_pylist() for part in values.flatten()), strict=True)
            sizes = pc.fill_null(pc.list_value_length(array), 0).to_pylist()
            return [list(itertools.islice(pairs, size)) for size in sizes]
        case "ranges":
            return [[(r["first"], r["last"]) for r in ranges or ()] for ranges in array.to_pylist()]
        case "time" | "arrival":
            return list(nanoseconds(array).to_pylist())
        case _:
            return list(array.to_pylist())


def _put_back(table: Table, row: Row, notes: list[dict[str, str]]) -> Row:
    """Put the texts of amounts that do not fit into their column in their places."""
    cells = list(row)
    for note in notes:
        name, _, leaf = note["column"].partition(".")
        at = table.place(name)
        if not leaf:
            cells[at] = note["text"]
            continue
        place = 0 if leaf == "price" else 1
        # Those of one side stand in the order of its levels.
        number = next(i for i, level in enumerate(cells[at]) if level[place] is None)
        level = list(cells[at][number])
        level[place] = note["text"]
        cells[at][number] = tuple(level)
    return tuple(cells)


class ParquetFile:
    """One file being written, in row groups of bounded size."""

    def __init__(self, path: Path, table: Table) -> None:
        self._table = table
        self._sink = pa.OSFile(str(path), "wb")
        self._writer: pq.ParquetWriter | None = None
        self._rows = ROW_GROUP if _has_levels(table) else ROW_GROUP // 2
        """Of a row group, all of which is in memory: texts take more than amounts."""
        self._batches: list[pa.RecordBatch] = []
        self._waiting = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Write a batch, with others in one row group."""
        self._batches.append(batch)
        self._waiting += batch.num_rows
        # A small last group would repeat the dictionaries for a few rows.
        while self._waiting >= self._rows + self._rows // 2:
            self._flush(self._rows)

    def _flush(self, rows: int) -> None:
        """Write one row group."""
        table = pa.Table.from_batches(self._batches, schema_of(self._table))
        # Not combined: that is a copy of the whole row group, and the file is the same.
        group, rest = table.slice(0, rows), table.slice(rows)
        if self._writer is None:
            self._writer = _writer(self._sink, self._table, group)
        self._writer.write_table(group, row_group_size=max(1, rows))
        self._batches, self._waiting = rest.to_batches(), rest.num_rows

    def close(self) -> None:
        """Write the last row group and the footer."""
        if self._batches or self._writer is None:
            self._flush(self._waiting)
        assert self._writer is not None
        self._writer.close()
        self._sink.close()


def _writer(sink: Any, table: Table, group: pa.Table) -> pq.ParquetWriter:
    """Open a file whose first row group this is: its rows say how the instants are stored."""
    numbers = {column.name for column in table.columns if column.type in _NUMBERS}
    numbers -= {c.name for c in table.columns if c.type in _INSTANTS and _repeats(group[c.name])}
    leaves, plain = _leaves(table), _plain_leaves(table, group)
    return pq.ParquetWriter(
        sink,
        schema_of(table),
        version="2.6",
        compression="zstd",
        compression_level=dict.fromkeys(leaves, _ZSTD) | dict.fromkeys(plain, _ZSTD_PLAIN),
        use_dictionary=[name for name in leaves if name not in numbers | plain],
        dictionary_pagesize_limit=_dictionary_bytes(table),
        column_encoding=dict.fromkeys(numbers, "DELTA_BINARY_PACKED"),
        # Of amounts inside of lists no reader asks for the lowest and the highest.
        write_statistics=[name for name in leaves if ".list." not in name],
        write_page_checksum=True,
        store_decimal_as_integer=False,
    )


def _repeats(instants: pa.ChunkedArray) -> bool:
    """
    Say whether instants are shorter in a dictionary than as differences.

    A block has one time for all markets, and some sources deliver all of them in one message.
    """
    return int(pc.count_distinct(instants).as_py()) * _REPEATED <= len(instants)


def _plain_leaves(table: Table, group: pa.Table) -> set[str]:
    """
    Name the columns of prices that are better without a dictionary: those of many markets.

    A price mostly stands near others like it, where zstd finds it. A dictionary has the prices of
    all markets, so its indices are long: with 20 markets both take the same room, with 300 prices
    without it take a sixth less. They are read in a tenth less time. For few markets it is shorter.
    """
    if not _has_levels(table):
        return set()
    if int(pc.count_distinct(group["market_id"]).as_py()) < _MANY_MARKETS:
        return set()
    return {name for name in _leaves(table) if name.endswith(".list.element.price")}


def _dictionary_bytes(table: Table) -> int:
    """
    Return how large a column's dictionary may become before its values are written plainly.

    Ids and hashes never repeat: the longer they are collected, the larger the file. Amounts of
    levels do repeat, however many there are.
    """
    return 1 << 20 if _has_levels(table) else 64 << 10


def _has_levels(table: Table) -> bool:
    return any(column.type == "levels" for column in table.columns)


def _leaves(table: Table) -> list[str]:
    """Name the columns of a file as Parquet does, nested ones by their path."""
    found = []
    for column in table.columns:
        match column.type:
            case "levels":
                found += [f"{column.name}.list.element.{leaf}" for leaf in ("price", "quantity")]
            case "ranges":
                found += [f"{column.name}.list.element.{leaf}" for leaf in ("first", "last")]
            case _:
                found.append(column.name)
    return [*found, "overflow.list.element.column", "overflow.list.element.text"]
