"""Bind our endpoints, with one sentence on failure; keep them reachable."""

import contextlib
import errno
import logging
import os
import socket as sockets
import stat
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

import zmq

from collector.client.sockets import needs_ipv6
from collector.settings.parts import requests_endpoint
from shards.protocol.errors import ConfigError
from shards.runtime import descriptors

log = logging.getLogger(__name__)

MAX_REQUEST: Final = 1 << 20
"""Bytes of a request; the connection that sends a longer one is closed. The longest honest one
names every topic of some thousand markets."""
_IPC: Final = "ipc://"
_RESERVE: Final = 16
_SPARE: Final = 24
"""Descriptors reserved for the rest of the process: files, sockets between processes."""


def bind(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    """
    Bind a socket.

    Raises:
        ConfigError: If the endpoint is in use or cannot be listened on.

    """
    if endpoint.startswith(_IPC):
        _check_path(endpoint)
    try:
        socket.setsockopt(zmq.IPV6, int(needs_ipv6(endpoint)))
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise _in_use(endpoint) from None
        raise ConfigError(
            f"cannot listen on {endpoint}: {error.strerror}; give another with --publish"
        ) from None


def _in_use(endpoint: str) -> ConfigError:
    return ConfigError(
        f"endpoint {endpoint} is in use, perhaps by another collector: "
        "stop that one, or give another with --publish"
    )


def _check_path(endpoint: str) -> None:
    """
    Check that no process listens there; libzmq would replace whatever is at that path.

    Raises:
        ConfigError: If a process does, or if it is not a socket.

    """
    path = endpoint.removeprefix(_IPC)
    try:
        is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return
    if not is_socket:
        raise ConfigError(f"{path} is not a socket: remove it, or give another with --publish")
    with sockets.socket(sockets.AF_UNIX) as asking:
        try:
            asking.connect(path)
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:
                # Left by a process that was killed.
                return
            raise ConfigError(f"cannot listen on {endpoint}: {error.strerror}") from None
    raise _in_use(endpoint)


def check_free(publish: Iterable[str]) -> None:
    """
    Check early whether the publish and request endpoints are free.

    Raises:
        ConfigError: If one is not.

    """
    with zmq.Context() as context:
        for endpoint in publish:
            for name in (endpoint, requests_endpoint(endpoint)):
                with context.socket(zmq.ROUTER) as socket:
                    socket.setsockopt(zmq.LINGER, 0)
                    bind(socket, name)


def check_one_free(endpoint: str) -> None:
    """
    Find out early whether one can listen there.

    Raises:
        ConfigError: If not.

    """
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        bind(socket, endpoint)


Prepare: TypeAlias = Callable[["zmq.Socket[bytes]"], None]
"""Sets what the endpoint that is bound next asks of those who connect."""


class _Bound(NamedTuple):
    socket: "zmq.Socket[bytes]"
    endpoint: str
    is_public: bool
    prepare: Prepare | None


class Endpoints:
    """
    The endpoints that an aggregator has bound, checked once a second.

    A socket file that was removed, for example by a cleaner of temporary folders, is created
    again. If readers have taken nearly all the descriptors of the process, no more are admitted:
    otherwise the process itself would fail to open files.
    """

    def __init__(self) -> None:
        self._bound: list[_Bound] = []
        self._unbound: list[_Bound] = []
        """To be bound again: libzmq removes an endpoint's file some time after the unbind."""
        self._is_full = False
        self._reserve = _take_reserve()
        """A reserve of descriptors, released when no others are left."""

    def bind(
        self,
        socket: "zmq.Socket[bytes]",
        endpoint: str,
        *,
        is_public: bool,
        prepare: Prepare | None = None,
    ) -> None:
        """
        Bind a socket; create its folder if it is missing.

        Raises:
            ConfigError: If the endpoint is in use or cannot be listened on.

        """
        if endpoint.startswith(_IPC):
            with contextlib.suppress(OSError):
                folder = os.path.dirname(endpoint.removeprefix(_IPC))
                os.makedirs(folder, mode=0o700, exist_ok=True)
        if prepare is not None:
            prepare(socket)
        bind(socket, endpoint)
        if endpoint.startswith(_IPC) and not is_public:
            # Only our user can enter the folder, whoever mounts or copies it.
            os.chmod(endpoint.removeprefix(_IPC), 0o600)
        self._bound.append(_Bound(socket, endpoint, is_public, prepare))

    def look(self) -> None:
        """Restore missing endpoints; admit readers or not."""
        self._count()
        waiting, self._unbound = self._unbound, []
        for bound in waiting:
            self._bind_again(bound)
        for bound in [b for b in self._bound if _is_gone(b.endpoint)]:
            log.warning("the socket file of %s was removed; creating it again", bound.endpoint)
            self._unbind(bound)

    def _count(self) -> None:
        limit, used = descriptors.limit(), descriptors.used()
        if not self._is_full and used > limit - _SPARE:
            self._is_full = True
            _give_back(self._reserve)
            log.warning(
                "%d of %d descriptors are in use: no more subscribers may connect; "
                "raise the limit of open files (ulimit -n)", used, limit,
            )  # fmt: skip
            for bound in [b for b in self._bound if b.is_public]:
                self._unbind(bound)
        elif self._is_full and used < limit - 2 * _SPARE:
            self._is_full = False
            self._reserve = _take_reserve()
            log.info("there is room for subscribers again")

    def _unbind(self, bound: _Bound) -> None:
        with contextlib.suppress(zmq.ZMQError):
            bound.socket.unbind(bound.endpoint)
        self._bound.remove(bound)
        self._unbound.append(bound)

    def _bind_again(self, bound: _Bound) -> None:
        if bound.is_public and self._is_full:
            self._unbound.append(bound)
            return
        try:
            self.bind(
                bound.socket, bound.endpoint, is_public=bound.is_public, prepare=bound.prepare
            )
        except (ConfigError, OSError) as error:
            log.warning("%s; trying again", error)
            self._unbound.append(bound)


def _take_reserve() -> list[int]:
    with contextlib.suppress(OSError):
        return [os.open(os.devnull, os.O_RDONLY) for _ in range(_RESERVE)]
    return []


def _give_back(reserve: list[int]) -> None:
    while reserve:
        os.close(reserve.pop())


def _is_gone(endpoint: str) -> bool:
    return endpoint.startswith(_IPC) and not os.path.lexists(endpoint.removeprefix(_IPC))
