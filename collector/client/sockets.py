"""How a client's sockets are made: one place for their options."""

import ipaddress
import socket as network
from typing import Final

import zmq

MAX_MESSAGE: Final = 64 << 20
"""Bytes of one part that a client takes from an aggregator; a longer one ends the connection."""


def connected(
    context: "zmq.Context[zmq.Socket[bytes]]",
    kind: int,
    endpoint: str,
    *,
    hwm: int,
    immediate: bool = False,
) -> "zmq.Socket[bytes]":
    """
    Make a socket and connect it.

    Args:
        kind: `zmq.SUB` or `zmq.DEALER`.
        hwm: Messages that may be queued either way.
        immediate: Queue nothing for a peer that is away: a request would be stale on its return.

    Raises:
        ValueError: If that is not an endpoint.

    """
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, hwm)
    socket.setsockopt(zmq.RCVHWM, hwm)
    socket.setsockopt(zmq.IMMEDIATE, int(immediate))
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
    try:
        socket.setsockopt(zmq.IPV6, int(needs_ipv6(endpoint)))
        socket.connect(endpoint)
    except (zmq.ZMQError, ValueError) as error:
        socket.close(linger=0)
        raise ValueError(f"cannot connect to {endpoint!r}: {error}") from error
    return socket


def needs_ipv6(endpoint: str) -> bool:
    """
    Whether a tcp endpoint is reached over IPv6 only.

    ZeroMQ tries one address. Over IPv4 it reaches every host that has such an address, a
    ``localhost`` whose first address is ``::1`` too; over IPv6 it reaches no other.
    """
    scheme, _, address = endpoint.partition("://")
    host = address.rpartition(":")[0]
    if scheme != "tcp" or not host or host == "*":
        return False
    if host.startswith("["):
        return True
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        pass
    try:
        found = network.getaddrinfo(host, None, type=network.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    families = {family for family, *_ in found}
    return network.AF_INET not in families and network.AF_INET6 in families
