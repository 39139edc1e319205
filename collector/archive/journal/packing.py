"""MessagePack arrays put together from encoded items: one call decodes them all."""

import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

Buffer: TypeAlias = bytes | msgspec.Raw
_ARRAY: Final = struct.Struct(">BI")
_ARRAY_32: Final = 0xDD
"""MessagePack's mark of an array whose length has four bytes."""


def array_of(items: Sequence[Buffer]) -> bytes:
    """Make one array of items that are encoded already."""
    return b"".join((array_head(len(items)), *items))


def array_head(count: int) -> bytes:
    """Return what stands before the items of an array."""
    return _ARRAY.pack(_ARRAY_32, count)
