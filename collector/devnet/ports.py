"""Loopback ports for the node."""

import socket
from contextlib import ExitStack

from collector.devnet.config import Ports
from collector.devnet.errors import DevnetError

LOOPBACK = "127.0.0.1"


def choose_ports(wanted: Ports) -> tuple[Ports, int]:
    """
    Give the ports to use, free ones where 0 is wanted, and one more for the peer-to-peer side.

    Raises:
        DevnetError: If a wanted port is taken.

    """
    numbers = (wanted.rpc, wanted.ws, wanted.grpc, wanted.stream, 0)
    with ExitStack() as stack:
        # All are held until all are chosen, so that none is chosen twice.
        rpc, ws, grpc, stream, peer = [_free(number, stack) for number in numbers]
    return Ports(rpc=rpc, ws=ws, grpc=grpc, stream=stream), peer


def _free(number: int, stack: ExitStack) -> int:
    sock = stack.enter_context(socket.socket())
    # As the node does: a port that is only cooling down from its last user is not taken.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((LOOPBACK, number))
        sock.listen()
    except OSError as exc:
        raise DevnetError(f"port {number} on {LOOPBACK} is taken: {exc.strerror}") from exc
    return int(sock.getsockname()[1])
