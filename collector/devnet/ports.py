"""Loopback ports for the node."""

import socket
import sys
from contextlib import ExitStack
from typing import Final

from collector.devnet.config import Ports
from collector.devnet.errors import DevnetError

LOOPBACK = "127.0.0.1"
_CAN_BE_KEPT: Final = sys.platform == "linux"
"""Whether a program can listen where another one is bound but does not listen."""


def choose_ports(wanted: Ports, keeping: ExitStack) -> tuple[Ports, int]:
    """
    Give the ports to use, free ones where 0 is wanted, and one more for the peer-to-peer side.

    Until `keeping` is closed the system gives them to nobody who asks for any free port: not
    while the node boots, nor while it restarts. (Linux alone can do that.)

    Raises:
        DevnetError: If a wanted port is taken.

    """
    numbers = (wanted.rpc, wanted.ws, wanted.grpc, wanted.stream, 0)
    with ExitStack() as stack:
        # All are held until all are chosen, so that none is chosen twice.
        rpc, ws, grpc, stream, peer = [_free(number, stack) for number in numbers]
        if _CAN_BE_KEPT:
            keeping.push(stack.pop_all())
    return Ports(rpc=rpc, ws=ws, grpc=grpc, stream=stream), peer


def _free(number: int, stack: ExitStack) -> int:
    sock = stack.enter_context(socket.socket())
    # As the node does: a port that is only cooling down from its last user is not taken.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((LOOPBACK, number))
    except OSError as exc:
        raise DevnetError(f"port {number} on {LOOPBACK} is taken: {exc.strerror}") from exc
    return int(sock.getsockname()[1])
