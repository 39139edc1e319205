"""
Sockets by their descriptors: which one it is, whether it has room, and how to cut it.

The system reuses descriptor numbers at once. Before a connection is closed, its descriptor is
duplicated and the socket's inode compared, so that no other connection is closed.
"""

import contextlib
import os
import select
import socket
import struct
import sys
from typing import Final

_BYTES_RECEIVED: Final = 128
"""Where Linux's ``struct tcp_info`` has the bytes that have come."""


def inode_of(descriptor: int) -> int:
    """Return the inode of a socket, which is unique even if the descriptor is reused; 0: none."""
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return 0


def bytes_received(descriptor: int) -> int:
    """Return how many bytes have come by a TCP connection; 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError, struct.error):
        copy = os.dup(descriptor)
        with socket.socket(fileno=copy) as own:
            size = _BYTES_RECEIVED + 8
            told = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
            return int(struct.unpack_from("=Q", told, _BYTES_RECEIVED)[0])
    return 0


def is_clear(descriptors: list[int]) -> set[int]:
    """Return the writable ones: nothing waits in libzmq's queue for them."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLOUT)
    return {descriptor for descriptor, events in poll.poll(0) if events}


def duplicate(descriptor: int, inode: int) -> int:
    """Duplicate a socket's descriptor; -1 if its number is another's by now."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return -1
    if inode_of(copy) == inode:
        return copy
    os.close(copy)
    return -1


def shut(descriptor: int, inode: int) -> bool:
    """Cut a connection, and no other one; libzmq sees it end. Return False if it cannot be."""
    copy = duplicate(descriptor, inode)
    if copy < 0:
        return False
    with contextlib.suppress(OSError), socket.socket(fileno=copy) as own:
        own.shutdown(socket.SHUT_RDWR)
    return True
