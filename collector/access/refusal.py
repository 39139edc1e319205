"""Recognise addresses that other machines can reach, and refuse them without keys."""

import ipaddress
import socket
from typing import Final

from collector.settings.addresses import host_port

_EVERYWHERE: Final = frozenset(("*", "", "0.0.0.0", "::"))


def is_open(endpoint: str) -> bool:
    """
    Return whether other machines may reach an endpoint.

    Args:
        endpoint: ``tcp://HOST:PORT``, ``ipc://PATH``, or ``HOST:PORT`` of an HTTP server, where
            no host is loopback.

    """
    scheme, separator, address = endpoint.partition("://")
    if not separator:
        return not _is_loopback(host_port(endpoint, least=0)[0])
    return scheme != "ipc" and not _is_loopback(address.rpartition(":")[0].strip("[]"))


def _is_loopback(host: str) -> bool:
    if host in _EVERYWHERE:
        return False
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        pass
    if host == "lo":
        # An interface: ZeroMQ takes its name for an address.
        return True
    try:
        found = {row[4][0] for row in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        # The address of an interface is not known in advance.
        return False
    return all(ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found)


def of_publisher(endpoint: str, option: str, *, has_keys: bool) -> str:
    """Return why frames cannot be published there; empty if they can."""
    if has_keys or not is_open(endpoint):
        return ""
    return (
        f"{option} {endpoint} can be reached from other machines, and anyone there could read "
        "everything: give --keys FILE ('collector keys new server' makes one), or --insecure if "
        "that is meant"
    )


def of_http(
    address: str, option: str, *, has_keys: bool, has_tls: bool, allow: str = "--insecure"
) -> str:
    """
    Return why HTTP cannot be served there; empty if it can.

    Args:
        allow: The option that lifts the refusal.

    """
    if (has_keys and has_tls) or not is_open(address):
        return ""
    missing, why = ("--keys and --tls-cert with --tls-key", "asks for no password")
    if has_keys:
        missing, why = "--tls-cert with --tls-key", "would send tokens unencrypted"
    elif has_tls:
        missing = "keys"
    return (
        f"{option} {address} can be reached from other machines, and {why}: "
        f"give {missing}, or add {allow} if that is meant"
    )
