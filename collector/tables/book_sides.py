"""
Both sides of many changes of a book, from MessagePack to columns. No level becomes an object. Pure.

A level is two short ASCII texts, and MessagePack marks texts and arrays with bytes from 128 up. So
the marks and the texts are told apart by their bytes, for thousands of levels in one call. Sides of
another form, for example with texts of more than 31 characters, are decoded level by level.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from collector.tables.arrow import amounts_of, levels_of
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
_SIDES: Final = [b"?"] * 0x90 + [_ARRAYS[n : n + 1] + b"l" * n for n in range(16)] + [b"?"] * 0x60
"""By the mark of an array: the mark and its levels."""
_HEADS: Final = [_ARRAYS[size : size + 1] for size in range(16)]
# Scalars of Arrow: it takes 8 us to make one of an int.
_ONE: Final = pa.scalar(1, pa.int32())
_TWO: Final = pa.scalar(2, pa.int32())
_LEVEL_MARKS: Final = pa.scalar(3, pa.int32())
"""Bytes of a level besides its texts."""
_HIGH: Final = pa.scalar(1 << 32, pa.int64())
_BEFORE: Final = pa.array([0], pa.int32())

_decode: Final = msgspec.msgpack.Decoder(list[Level]).decode


class Pair(NamedTuple):
    """Something of the bids, and the same of the asks."""

    bids: Any
    asks: Any


class Sides(Protocol):
    """Both sides of some changes."""

    def newest(self) -> Pair:
        """Return levels that make the same book as all of them, one after the other."""

    def columns(self) -> Pair:
        """Return the values of the table's columns: each change's levels in the table's order."""

    def facts(self) -> Pair:
        """Return the same for an encoder of MessagePack."""


def sides_of(bids: Encoded, asks: Encoded) -> Sides:
    """
    Take both sides of some changes.

    Raises:
        msgspec.MsgspecError: If they are none.

    """
    try:
        return _Columns(bids, asks)
    except _OtherFormError:
        return _Lists(bids, asks)


class _OtherFormError(Exception):
    """These sides do not have the form that is read by its marks alone."""


class _Lists:
    """Sides of any form, level by level."""

    def __init__(self, bids: Encoded, asks: Encoded) -> None:
        self._bids, self._asks = list(map(_decode, bids)), list(map(_decode, asks))

    def newest(self) -> Pair:
        return Pair(chain.from_iterable(self._bids), chain.from_iterable(self._asks))

    def columns(self) -> Pair:
        return self.facts()

    def facts(self) -> Pair:
        return Pair(
            [canonical(levels, highest_first=True) for levels in self._bids],
            [canonical(levels, highest_first=False) for levels in self._asks],
        )


class _Columns:
    """Sides whose levels are two short texts each: all bids first, then all asks."""

    def __init__(self, bids: Encoded, asks: Encoded) -> None:
        self._bids, self._asks = bids, asks
        sizes, marks, data = _parsed([*bids, *asks])
        lengths = _numbers(marks.translate(_LENGTH, _NO_TEXTS))
        offsets = _offsets(lengths)
        self._ends = _offsets(sizes)
        self._count = len(lengths) // 2
        if 2 * self._ends[-1].as_py() != len(lengths) or offsets[-1].as_py() != len(data):
            raise _OtherFormError
        self._cut = self._ends[len(bids)].as_py()
        """The first level of the asks."""
        texts = pa.StringArray.from_buffers(len(lengths), offsets.buffers()[1], pa.py_buffer(data))
        evens = pc.multiply(_places(self._count), _TWO)
        self._prices = texts.take(evens).dictionary_encode()
        self._quantities = texts[1:].take(evens)
        self._spelled: list[str] = self._prices.dictionary.to_pylist()
        """The different prices."""

    def newest(self) -> Pair:
        """Return the last quantity of each price."""
        different, codes, cut = len(self._spelled), self._prices.indices, self._cut
        asks = pc.add(codes[cut:], pa.scalar(different, pa.int32()))
        back = pc.subtract(pa.scalar(self._count - 1, pa.int32()), _places(self._count))
        of_last = pc.index_in(
            _places(2 * different), value_set=pa.concat_arrays([codes[:cut], asks]).take(back)
        )
        last = self._quantities.take(back.take(of_last)).to_pylist()
        return Pair(_told(self._spelled, last[:different]), _told(self._spelled, last[different:]))

    def columns(self) -> Pair:
        coded = (self._prices, self._quantities.dictionary_encode())
        prices, quantities = (amounts_of(codes.dictionary) for codes in coded)
        if prices is None or quantities is None:
            return _Lists(self._bids, self._asks).columns()
        of_price, of_quantity = (codes.indices for codes in coded)
        count, cut = len(self._bids), self._cut
        first_ask = pa.scalar(cut, pa.int32())
        sides = (
            (self._ends[: count + 1], slice(cut), self._order.bids),
            (pc.subtract(self._ends[count:], first_ask), slice(cut, None), self._order.asks),
        )
        # Each side by itself: a slice of both would keep the other in memory.
        return Pair._make(
            levels_of(
                ends,
                prices.take(_ordered(of_price[side], order)),
                quantities.take(_ordered(of_quantity[side], order)),
            )
            for ends, side, order in sides
        )

    def facts(self) -> Pair:
        bids, asks = self._order
        if bids is None and asks is None:
            return Pair(self._bids, self._asks)
        of_prices = pc.binary_length(self._prices.dictionary).take(self._prices.indices)
        texts = pc.add(of_prices, pc.binary_length(self._quantities))
        sizes, cut = pc.add(texts, _LEVEL_MARKS), self._cut
        first_ask = pa.scalar(cut, pa.int32())
        return Pair(
            _reordered(self._bids, self._ends[: len(self._bids) + 1], sizes[:cut], bids),
            _reordered(
                self._asks, pc.subtract(self._ends[len(self._bids) :], first_ask), sizes[cut:], asks
            ),
        )

    @cached_property
    def _order(self) -> Pair:
        """Where each level of the table's order stands; None if all of a side stand there already."""
        spelled, codes, cut = self._spelled, self._prices.indices, self._cut
        ranked = sorted(range(len(spelled)), key=lambda code: (len(spelled[code]), spelled[code]))
        ranks = [0] * len(ranked)
        for rank, code in enumerate(ranked):
            ranks[code] = rank
        ranks_up = pa.array(ranks, pa.int64()).take(codes)
        of_side = pc.list_parent_indices(pa.ListArray.from_arrays(self._ends, codes))
        starts = pc.multiply(of_side, _HIGH)
        return Pair(
            _sorting(pc.subtract(starts[:cut], ranks_up[:cut])),
            _sorting(pc.add(starts[cut:], ranks_up[cut:])),
        )


def _told(prices: list[str], quantities: list[str | None]) -> list[Level]:
    pairs = zip(prices, quantities, strict=True)
    return [(price, quantity) for price, quantity in pairs if quantity is not None]


def _sorting(keys: Any) -> Any:
    """Return the order in which numbers rise; None if they do already."""
    if not pc.any(pc.greater(keys[:-1], keys[1:])).as_py():
        return None
    return pc.array_sort_indices(keys)


def _ordered(array: Any, order: Any) -> Any:
    return array if order is None else array.take(order)


def _reordered(encoded: Encoded, ends: Any, sizes: Any, order: Any) -> Encoded:
    """Return sides with their levels in another order: where the levels of each end, and their bytes."""
    if order is None:
        return encoded
    heads = list(map(_head, pc.subtract(ends[1:], ends[:-1]).to_pylist()))
    bodies = [bytes(side)[len(head) :] for side, head in zip(encoded, heads, strict=True)]
    offsets = _offsets(sizes)
    buffers = [None, offsets.buffers()[1], pa.py_buffer(b"".join(bodies))]
    levels = pa.BinaryArray.from_buffers(pa.binary(), len(sizes), buffers)
    ordered = levels.take(order).buffers()[2].to_pybytes()
    # Levels change places within their side, so each side still has the same bytes.
    cuts = pairwise(offsets.take(ends).to_pylist())
    return [
        msgspec.Raw(head + ordered[start:end])
        for head, (start, end) in zip(heads, cuts, strict=True)
    ]


def _parsed(encoded: Encoded) -> tuple[Any, bytes, bytes]:
    """Return each side's number of levels, the marks of all levels, and their texts in a row."""
    joined = b"".join(encoded)
    if _ARRAY_16 in joined:
        return _parsed_long(encoded)
    marks = joined.translate(None, _ASCII)
    told = marks.translate(_ALIKE).replace(_LEVEL, b"l")
    sizes = told.translate(None, b"l")
    # An array of two is marked as a level is, so that the numbers alone may be right by chance.
    if len(sizes) != len(encoded) or told != b"".join(map(_SIDES.__getitem__, sizes)):
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
    return _HEADS[size] if size < len(_HEADS) else bytes((_ARRAY_16, size >> 8, size & 0xFF))


def _numbers(data: bytes) -> Any:
    return pa.Array.from_buffers(pa.uint8(), len(data), [None, pa.py_buffer(data)])


def _offsets(sizes: Any) -> Any:
    """Return where each of some things that follow each other begins, and the end of the last."""
    return pa.concat_arrays([_BEFORE, pc.cumulative_sum(sizes.cast(pa.int32()))])


def _places(count: int) -> Any:
    """Return 0, 1, 2, ..."""
    return pc.subtract(pc.cumulative_sum(pa.repeat(_ONE, count)), _ONE)
