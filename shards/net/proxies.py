"""
Whether a proxy stands between us and a server: one rule for gRPC, WebSockets and RPC.

The rule is gRPC's own: the first of ``grpc_proxy``, ``https_proxy``, ``http_proxy`` that is set,
unless ``no_proxy`` names the host. Connections to this machine never use a proxy.
"""

import ipaddress
import os
from typing import Final, NamedTuple

VARIABLES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPT: Final = ("no_grpc_proxy", "no_proxy")


class Proxy(NamedTuple):
    """A proxy, and the environment variable that names it."""

    url: str
    variable: str


def proxy_of(host: str) -> Proxy | None:
    """Return the proxy for connections to a host; None for a direct connection."""
    if is_loopback(host) or _is_excepted(host):
        return None
    for variable in VARIABLES:
        if url := os.environ.get(variable, ""):
            return Proxy(url if "://" in url else f"http://{url}", variable)
    return None


def _is_excepted(host: str) -> bool:
    named = next(filter(None, map(os.environ.get, _EXCEPT)), "")
    suffixes = [name.strip().lstrip(".") for name in named.split(",")]
    return any(s and (host == s or host.endswith(f".{s}")) for s in suffixes) or "*" in suffixes


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
