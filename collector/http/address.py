"""The HTTP address: parse ``HOST:PORT``, and listen there."""

import importlib.util
import socket
from typing import Final

from collector.settings import installed
from collector.settings.addresses import host_port
from shards.protocol.errors import ConfigError

_EXTRA: Final = ("starlette", "uvicorn", "prometheus_client")


def address(http: str) -> tuple[str, int]:
    """
    Parse ``HOST:PORT``, ``:PORT`` or ``PORT``; the default host is loopback.

    Raises:
        ConfigError: If it has another form.

    """
    try:
        return host_port(http)
    except ValueError as error:
        raise ConfigError(f"--http {error}") from None


def listen(http: str) -> socket.socket:
    """
    Listen at the address.

    Raises:
        ConfigError: If the port is in use, or the host is not ours.

    """
    host, port = address(http)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigError(
            f"cannot serve HTTP on {http}: {error.strerror or error}; give another with --http"
        ) from None


def check(http: str) -> None:
    """
    Check early whether HTTP can be served there.

    Raises:
        ConfigError: If the extra is not installed, or listening fails.

    """
    address(http)
    missing = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"--http needs {' and '.join(missing)}: {installed.advice('web')}")
    listen(http).close()
