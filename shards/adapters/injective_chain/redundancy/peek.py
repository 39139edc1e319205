"""
Read the subscription and the height of a payload without decoding it.

A node prints both first. If a payload looks different, the height is 0 and the payload has to be
decoded. Pure.
"""

import re
from collections.abc import Callable
from typing import Final, TypeAlias

Peek: TypeAlias = Callable[[bytes | memoryview, int], tuple[int, int]]
"""Takes a payload and its subscription, which is 0 if the payload names it; returns both."""

_HEAD: Final = re.compile(
    rb'\{"jsonrpc":"2\.0","id":(\d{1,18}),"result":\{"block_height":"(\d{1,18})"'
).match
_HEIGHT: Final = 0x08
"""Protobuf's tag of field 1, a number."""
_LONGEST: Final = 9
"""Bytes of the largest height."""


def ws(payload: bytes | memoryview, subscription: int) -> tuple[int, int]:
    """Read a message of the node's WebSocket."""
    found = _HEAD(payload)
    if found is None:
        return subscription, 0
    return int(found[1]), int(found[2])


def grpc(payload: bytes | memoryview, subscription: int) -> tuple[int, int]:
    """Read a message of the chain stream over gRPC."""
    if not payload or payload[0] != _HEIGHT:
        return subscription, 0
    height = shift = 0
    for byte in payload[1 : 1 + _LONGEST]:
        height |= (byte & 0x7F) << shift
        if byte < 0x80:
            return subscription, height
        shift += 7
    return subscription, 0
