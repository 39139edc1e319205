"""Create a client's sockets: the one place for their options."""

import ipaddress
import socket as network
from typing import Final

import zmq

from collector.access.key_files import Keys

MAX_MESSAGE: Final = 64 << 20
"""Largest message part accepted from an aggregator; a larger one ends the connection."""
RECONNECT_MS: Final = (50, 500)
"""The pause before a connection is tried again: at first, and at most."""

PLAIN: Final = Keys(public="", secret="")
"""No keys, even after `use`: for endpoints that the file system protects."""
_own = PLAIN
_of_endpoint: dict[str, Keys] = {}


def use(keys: Keys) -> None:
    """From now on use these keys if none are given: a command is one process, one client."""
    global _own
    _own = keys


def use_at(endpoint: str, keys: Keys) -> None:
    """The same for one endpoint: cells may have different keys."""
    _of_endpoint[endpoint] = keys


def own() -> Keys:
    """Return the keys that `use` took; `PLAIN` before that."""
    return _own


def chosen(keys: Keys | None, endpoint: str) -> Keys:
    """
    Return the keys that a client connects to an endpoint with.

    Raises:
        ConfigError: If they name no server.

    """
    keys = _of_endpoint.get(endpoint, _own) if keys is None else keys
    return keys.of_client() if keys.secret else keys


def connected(
    context: "zmq.Context[zmq.Socket[bytes]]",
    kind: int,
    endpoint: str,
    *,
    hwm: int,
    keys: Keys | None = None,
) -> "zmq.Socket[bytes]":
    """
    Create a socket and connect it.

    Args:
        kind: `zmq.SUB` or `zmq.DEALER`.
        hwm: Messages that may be queued in each direction.
        keys: Our key and the server's; without any those of `use`, with `PLAIN` none.

    Raises:
        ValueError: If that is not an endpoint.
        ConfigError: If the keys name no server.

    """
    socket = made(context, kind, hwm=hwm, keys=chosen(keys, endpoint))
    try:
        connect(socket, endpoint)
    except ValueError:
        socket.close(linger=0)
        raise
    return socket


def made(
    context: "zmq.Context[zmq.Socket[bytes]]",
    kind: int,
    *,
    hwm: int,
    keys: Keys,
    immediate: bool = False,
) -> "zmq.Socket[bytes]":
    """
    Create a socket that is not connected yet.

    Args:
        kind: `zmq.SUB` or `zmq.DEALER`.
        hwm: Messages that may be queued in each direction.
        keys: Our key and the server's, as `chosen` returns them.
        immediate: Queue nothing while the peer is away: the request would be stale later.

    """
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, hwm)
    socket.setsockopt(zmq.RCVHWM, hwm)
    socket.setsockopt(zmq.IMMEDIATE, int(immediate))
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
    least, most = RECONNECT_MS
    socket.setsockopt(zmq.RECONNECT_IVL, least)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, most)
    if keys.secret:
        socket.setsockopt_string(zmq.CURVE_PUBLICKEY, keys.public)
        socket.setsockopt_string(zmq.CURVE_SECRETKEY, keys.secret)
        socket.setsockopt_string(zmq.CURVE_SERVERKEY, keys.server)
    return socket


def connect(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    """
    Connect a socket.

    Raises:
        ValueError: If that is not an endpoint.

    """
    try:
        socket.setsockopt(zmq.IPV6, int(needs_ipv6(endpoint)))
        socket.connect(endpoint)
    except (zmq.ZMQError, ValueError) as error:
        raise ValueError(f"cannot connect to {endpoint!r}: {error}") from error


def needs_ipv6(endpoint: str) -> bool:
    """
    Whether a tcp endpoint is reachable only over IPv6.

    ZeroMQ tries a single address. With IPv4 it reaches every host that has an IPv4 address, even
    if ``localhost`` resolves to ``::1`` first; with IPv6 it reaches only IPv6 hosts.
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
