"""Bind our endpoints, or say in one sentence why that cannot be done."""

from collections.abc import Iterable

import zmq

from collector.settings.parts import requests_endpoint
from shards.protocol.errors import ConfigError


def bind(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    """
    Bind a socket.

    Raises:
        ConfigError: If the endpoint is in use or cannot be listened on.

    """
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise ConfigError(
                f"endpoint {endpoint} is in use, perhaps by another collector: "
                "stop that one, or give another with --publish"
            ) from None
        raise ConfigError(
            f"cannot listen on {endpoint}: {error.strerror}; give another with --publish"
        ) from None


def check_free(publish: Iterable[str]) -> None:
    """
    Find out early whether frames can be published and requests answered there.

    Raises:
        ConfigError: If not.

    """
    with zmq.Context() as context:
        for endpoint in publish:
            for name in (endpoint, requests_endpoint(endpoint)):
                with context.socket(zmq.ROUTER) as socket:
                    socket.setsockopt(zmq.LINGER, 0)
                    bind(socket, name)
