"""
One side of many changes of a book, from MessagePack to a column. No level becomes an object. Pure.

A level is two short ASCII texts, and MessagePack marks texts and arrays with bytes from 128 up. So
the marks and the texts are told apart by their bytes, for thousands of levels in one call. Sides of
another form, for example with texts of more than 31 characters, are decoded level by level.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import Any, Final, Protocol, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from collector.tables.arrow import DECIMAL, levels_of
from collector.tables.rows import canonical
from shards.protocol.events import Level

Encoded: TypeAlias = Sequence[msgspec.Raw]
"""One side of each change, a MessagePack array of levels."""

_ARRAYS: Final = bytes(range(0x90, 0xA0))
"""Marks of arrays of at most fifteen items."""
_TEXTS: Final = bytes(range(0xA0, 0xC0))
"""Marks of texts of at most 31 bytes."""
_ARRAY_16: Final = 0xDC
_ASCII: Final = bytes(range(0x80))
_MARKS: Final = bytes(range(0x80, 0x100))
_NO_TEXTS: Final = bytes(set(range(0x100)) - set(_TEXTS))
_SIZE: Final = bytes(byte & 0x0F for byte in range(0x100))
_LENGTH: Final = bytes(byte & 0x1F for byte in range(0x100))
# Empty texts are left out: they stand for no amount, so they are of another form.
_ALIKE: Final = bytes.maketrans(_TEXTS[1:], b"t" * 31)
_LEVEL: Final = b"\x92tt"
_LEVEL_MARKS: Final = 3
"""Bytes of a level besides its texts."""
_HIGH: Final = 1 << 32

_decode: Final = msgspec.msgpack.Decoder(list[Level]).decode


class Side(Protocol):
    """One side of some changes."""

    def newest(self) -> Iterable[Level]:
        """Return levels that make the same book as all of them, one after the other."""

    def column(self) -> Any:
        """Return the values of the table's column: each change's levels in the table's order."""

    def facts(self) -> Sequence[Any]:
        """Return the same for an encoder of MessagePack."""


def side_of(encoded: Encoded, *, highest_first: bool) -> Side:
    """
    Take one side of some changes.

    Raises:
        msgspec.MsgspecError: If it is none.

    """
    try:
        return _Columns(encoded, highest_first=highest_first)
    except _OtherFormError:
        return _Lists(encoded, highest_first=highest_first)


class _OtherFormError(Exception):
    """These sides do not have the form that is read by its marks alone."""


class _Lists:
    """Sides of any form, level by level."""

    def __init__(self, encoded: Encoded, *, highest_first: bool) -> None:
        self._told = list(map(_decode, encoded))
        self._highest_first = highest_first

    def newest(self) -> Iterable[Level]:
        return chain.from_iterable(self._told)

    def column(self) -> Any:
        return self.facts()

    def facts(self) -> Sequence[list[Level]]:
        return [canonical(levels, highest_first=self._highest_first) for levels in self._told]


class _Columns:
    """Sides whose levels are two short texts each."""

    def __init__(self, encoded: Encoded, *, highest_first: bool) -> None:
        self._encoded = encoded
        self._highest_first = highest_first
        sizes, marks, data = _parsed(encoded)
        lengths = _numbers(marks.translate(_LENGTH, _NO_TEXTS))
        offsets = _offsets(lengths)
        self._ends = _offsets(sizes)
        self._count = len(lengths) // 2
        if 2 * self._ends[-1].as_py() != len(lengths) or offsets[-1].as_py() != len(data):
            raise _OtherFormError
        texts = pa.StringArray.from_buffers(len(lengths), offsets.buffers()[1], pa.py_buffer(data))
        evens = pc.multiply(_places(self._count), 2)
        self._prices = texts.take(evens).dictionary_encode()
        self._quantities = texts.take(pc.add(evens, 1))
        self._spelled: list[str] = self._prices.dictionary.to_pylist()
        """The different prices."""

    def newest(self) -> Iterable[Level]:
        """Return the last quantity of each price."""
        back = pc.subtract(self._count - 1, _places(self._count))
        last = pc.index_in(_places(len(self._spelled)), value_set=self._prices.indices.take(back))
        return zip(self._spelled, self._quantities.take(back.take(last)).to_pylist(), strict=True)

    def column(self) -> Any:
        codes, quantities = self._prices.indices, self._quantities
        if self._order is not None:
            codes, quantities = codes.take(self._order), quantities.take(self._order)
        found = quantities.dictionary_encode()
        return levels_of(
            self._ends,
            self._prices.dictionary.cast(DECIMAL).take(codes),
            found.dictionary.cast(DECIMAL).take(found.indices),
        )

    def facts(self) -> Sequence[msgspec.Raw]:
        if self._order is None:
            return self._encoded
        heads = [_head(size) for size in pc.subtract(self._ends[1:], self._ends[:-1]).to_pylist()]
        bodies = [bytes(side)[len(head) :] for side, head in zip(self._encoded, heads, strict=True)]
        price_bytes = pc.binary_length(self._prices.dictionary).take(self._prices.indices)
        texts = pc.add(price_bytes, pc.binary_length(self._quantities))
        offsets = _offsets(pc.add(texts, _LEVEL_MARKS))
        levels = pa.BinaryArray.from_buffers(
            pa.binary(), self._count, [None, offsets.buffers()[1], pa.py_buffer(b"".join(bodies))]
        )
        ordered = levels.take(self._order).buffers()[2].to_pybytes()
        # Levels change places within their side, so each side still has the same bytes.
        cuts = pairwise(offsets.take(self._ends).to_pylist())
        return [
            msgspec.Raw(head + ordered[start:end])
            for head, (start, end) in zip(heads, cuts, strict=True)
        ]

    @cached_property
    def _order(self) -> Any:
        """Where each level of the table's order stands; None if all stand there already."""
        ranked = sorted(
            range(len(self._spelled)),
            key=lambda code: (len(self._spelled[code]), self._spelled[code]),
            reverse=self._highest_first,
        )
        ranks = [0] * len(ranked)
        for rank, code in enumerate(ranked):
            ranks[code] = rank
        of_change = pc.list_parent_indices(
            pa.ListArray.from_arrays(self._ends, self._prices.indices)
        )
        keys = pc.add(
            pc.multiply(of_change, _HIGH), pa.array(ranks, pa.int64()).take(self._prices.indices)
        )
        if not pc.any(pc.greater(keys[:-1], keys[1:])).as_py():
            return None
        return pc.array_sort_indices(keys)


def _parsed(encoded: Encoded) -> tuple[Any, bytes, bytes]:
    """Return each side's number of levels, the marks of all levels, and their texts in a row."""
    joined = b"".join(encoded)
    if _ARRAY_16 in joined:
        return _parsed_long(encoded)
    marks = joined.translate(None, _ASCII)
    sizes = marks.translate(_ALIKE).replace(_LEVEL, b"")
    if len(sizes) != len(encoded) or sizes.translate(None, _ARRAYS):
        raise _OtherFormError
    return _numbers(sizes.translate(_SIZE)), marks, joined.translate(None, _MARKS)


def _parsed_long(encoded: Encoded) -> tuple[Any, bytes, bytes]:
    """Do so where some sides have more than fifteen levels: the length of an array may be any bytes."""
    sides = list(map(bytes, encoded))
    sizes = [_size(side) for side in sides]
    joined = b"".join(side[len(_head(size)) :] for side, size in zip(sides, sizes, strict=True))
    marks = joined.translate(None, _ASCII)
    if marks.translate(_ALIKE).replace(_LEVEL, b""):
        raise _OtherFormError
    return pa.array(sizes, pa.int32()), marks, joined.translate(None, _MARKS)


def _size(side: bytes) -> int:
    """Return a side's number of levels."""
    size = int.from_bytes(side[1:3]) if side[0] == _ARRAY_16 else _SIZE[side[0]]
    if not side.startswith(_head(size)):
        raise _OtherFormError
    return size


def _head(size: int) -> bytes:
    """Return MessagePack's mark of an array."""
    return _ARRAYS[size : size + 1] or bytes((_ARRAY_16, size >> 8, size & 0xFF))


def _numbers(data: bytes) -> Any:
    return pa.Array.from_buffers(pa.uint8(), len(data), [None, pa.py_buffer(data)])


def _offsets(sizes: Any) -> Any:
    """Return where each of some things that follow each other begins, and the end of the last."""
    return pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(sizes.cast(pa.int32()))])


def _places(count: int) -> Any:
    """Return 0, 1, 2, ..."""
    return pc.subtract(pc.cumulative_sum(pa.repeat(1, count)), 1)
