"""
Refuse newcomers in the kernel, before a connection costs anything: Linux's socket filters.

A filter on a listening socket sees the packets that open connections, and drops those of
addresses that are shut out. It needs no rights. Where there is none, a connection is closed
as soon as it is accepted. Packets of established connections never come by here.
"""

import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from collector.access.attempt_limits import Network, ShutOut

_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
_instruction: Final = struct.Struct("=HBBI")
"""Linux's ``struct sock_filter``."""
_NETWORK_HEADER: Final = 0xFFF00000
_LOAD_WORD: Final = 0x20
_LOAD_BYTE: Final = 0x30
_SHIFT_RIGHT: Final = 0x74
_JUMP: Final = 0x05
_JUMP_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_WHOLE_PACKET: Final = 0x7FFFFFFF
_SOURCE_V4: Final = _NETWORK_HEADER + 12
_SOURCE_V6: Final = _NETWORK_HEADER + 8

Instruction = tuple[int, int, int, int]


def apply(descriptor: int, shut_out: ShutOut) -> bool:
    """Have a listening socket refuse those who are shut out; say whether the kernel does."""
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError), socket.socket(fileno=descriptor) as own:
        try:
            if shut_out.refused or shut_out.strangers:
                _attach(own, program(shut_out))
            else:
                _detach(own)
        finally:
            own.detach()
        return True
    return False


def _attach(own: socket.socket, instructions: Sequence[Instruction]) -> None:
    code = ctypes.create_string_buffer(b"".join(_instruction.pack(*one) for one in instructions))
    argument = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    own.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, argument)


def _detach(own: socket.socket) -> None:
    with contextlib.suppress(FileNotFoundError):
        own.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def program(shut_out: ShutOut) -> list[Instruction]:
    """Spell the filter in the instructions of Linux's socket filters (BPF)."""
    version_4 = list(_of_version(shut_out, 4))
    return [
        (_LOAD_BYTE, 0, 0, _NETWORK_HEADER),
        (_SHIFT_RIGHT, 0, 0, 4),
        (_JUMP_IF_EQUAL, 1, 0, 4),
        (_JUMP, 0, 0, len(version_4)),
        *version_4,
        *_of_version(shut_out, 8),
    ]


def _of_version(shut_out: ShutOut, size: int) -> Iterator[Instruction]:
    """Spell the comparisons for addresses of 4 or 8 bytes, and what follows if none is equal."""
    for network in shut_out.refused:
        if len(network) == size:
            yield from _if_from(network, 0)
    if shut_out.strangers:
        for network in shut_out.known:
            if len(network) == size:
                yield from _if_from(network, _WHOLE_PACKET)
    yield (_RETURN, 0, 0, 0 if shut_out.strangers else _WHOLE_PACKET)


def _if_from(network: Network, answer: int) -> list[Instruction]:
    """Return the answer if the packet is from a network; otherwise go on."""
    if len(network) == 4:
        return [
            (_LOAD_WORD, 0, 0, _SOURCE_V4),
            (_JUMP_IF_EQUAL, 0, 1, int.from_bytes(network, "big")),
            (_RETURN, 0, 0, answer),
        ]
    return [
        (_LOAD_WORD, 0, 0, _SOURCE_V6),
        (_JUMP_IF_EQUAL, 0, 3, int.from_bytes(network[:4], "big")),
        (_LOAD_WORD, 0, 0, _SOURCE_V6 + 4),
        (_JUMP_IF_EQUAL, 0, 1, int.from_bytes(network[4:], "big")),
        (_RETURN, 0, 0, answer),
    ]
