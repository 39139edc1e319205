"""Where the page is served, and the host names under which it may be requested."""

import ipaddress
import socket
from typing import Final

from collector.access import refusal
from collector.settings.addresses import host_port
from collector.settings.parts import TlsConfig
from shards.protocol.errors import ConfigError

_BACKLOG: Final = 64


def is_loopback(host: str) -> bool:
    """Whether an address is reachable only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(
    text: str,
    *,
    option: str,
    allow_remote: bool,
    tls: TlsConfig = TlsConfig(),  # noqa: B008 - it does not change
) -> socket.socket:
    """
    Listen at ``HOST:PORT``, or at a port of loopback; port 0 means any free port.

    Raises:
        ConfigError: If it is not an address, is in use, or is reachable from other machines
            without `allow_remote`.

    """
    try:
        host, port = host_port(text, least=0)
    except ValueError as error:
        raise ConfigError(f"{option} {error}") from None
    if not is_loopback(host) and not allow_remote:
        allow = "--allow-remote" if option == "--listen" else f"{option}-allow-remote"
        refused = refusal.of_http(
            text, option, has_keys=bool(tls.authorized), has_tls=bool(tls.certificate), allow=allow
        )
        if refused:
            raise ConfigError(refused)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(f"{option}: cannot listen on {text}: {error.strerror}") from None


def address_of(listener: socket.socket) -> str:
    """Return the address of the listener, with its actual port."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(listener: socket.socket, tls: TlsConfig = TlsConfig()) -> str:  # noqa: B008
    """Return the URL to open in a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
    scheme = "https" if tls.certificate else "http"
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


def is_ours(host_header: str, names: frozenset[str]) -> bool:
    """
    Whether a request's Host header names this server.

    A foreign page can make its own name resolve to our address and read us through its visitor's
    browser (DNS rebinding). It cannot do so with an IP address instead of a name, nor with a name
    that it does not control.
    """
    host = host_header.rsplit(":", 1)[0] if not host_header.endswith("]") else host_header
    host = host.strip("[]").lower()
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host in names
    return True
