"""Where the page is served, and by which names it may be asked for."""

import ipaddress
import socket
from typing import Final

from collector.access import refusal
from collector.settings.parts import DEFAULT_WEB, TlsConfig
from shards.protocol.errors import ConfigError

_BACKLOG: Final = 64


def split_address(text: str, *, option: str) -> tuple[str, int]:
    """
    Split ``HOST:PORT`` or ``[IPv6]:PORT``.

    Raises:
        ConfigError: If it is neither.

    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{option} {text!r} is not HOST:PORT, such as {DEFAULT_WEB}")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to that address."""
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
    Listen at ``HOST:PORT``; port 0 is any free one.

    Raises:
        ConfigError: If that is no address, is in use, or can be reached from other machines
            and that was not allowed.

    """
    host, port = split_address(text, option=option)
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
    """Return the address that is listened at, its port settled."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(listener: socket.socket, tls: TlsConfig = TlsConfig()) -> str:  # noqa: B008
    """Return what to type into a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
    scheme = "https" if tls.certificate else "http"
    return f"{scheme}://[{host}]:{port}/" if ":" in host else f"{scheme}://{host}:{port}/"


def is_ours(host_header: str, names: frozenset[str]) -> bool:
    """
    Whether a request's Host is one that we may be asked for.

    A page elsewhere can make its own name resolve to our address and then read us with its
    visitor's browser (DNS rebinding). It cannot do so with an address in place of a name, nor
    with a name that is not its own.
    """
    host = host_header.rsplit(":", 1)[0] if not host_header.endswith("]") else host_header
    host = host.strip("[]").lower()
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host in names
    return True
