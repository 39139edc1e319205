"""
The commands' side: start Ray on this host if it is ours, find the manager, tell it, ask it.

Everything here may be killed and started again, on any host of the cluster: the manager is in Ray,
and what is wanted is on the hosts.
"""

import contextlib
import errno
import ipaddress
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import msgspec

from collector.cluster import actors, keeper
from collector.cluster.folder import HostFolder, read
from collector.cluster.processes import Kept, save
from collector.cluster.ray_node import PORTS, RayNode, of_token
from collector.cluster.spec import Spec, View
from collector.settings.addresses import host_port
from shards.protocol.errors import ConfigError

_ANSWER_S: Final = 20.0
_TOKEN_S: Final = 3.0
_RAY_WAITS: Final = "RAY_gcs_server_request_timeout_seconds"
"""How long Ray itself waits for its process on this host while a command connects; 60 by default."""
_PROBE: Final = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_EVERY_S: Final = 0.5
_PORTS_END: Final = 65_536
_WHY_NOT: Final = {
    errno.EADDRNOTAVAIL: "this host has no such address",
    errno.EADDRINUSE: "another program listens there",
}


def node_of(folder: HostFolder) -> RayNode:
    """
    Return how Ray is reached from this host.

    Raises:
        ConfigError: If `up` was never run here.

    """
    node = read(folder.ray, RayNode)
    if node is None:
        raise ConfigError(
            f"this host belongs to no cluster: {folder.ray} is missing, and "
            "'collector cluster up' writes it (--folder names another folder)"
        )
    return node


def is_joined(folder: HostFolder, node: RayNode) -> bool:
    """Whether `up` was run like this before on this host."""
    return read(folder.ray, RayNode) == node and not folder.leaving.exists()


def join(folder: HostFolder, node: RayNode) -> None:
    """Have Ray run on this host, from now on."""
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.leaving.unlink(missing_ok=True)
    save(folder.ray, node, synced=True)
    keeper.ensure_if_needed(folder)


def ray_address(option: str, given: str) -> str:
    """
    Return an address of Ray as HOST:PORT.

    Raises:
        ConfigError: If the ports from there on do not exist.

    """
    host, port = host_port(given)
    if port + PORTS > _PORTS_END:
        raise ConfigError(
            f"{option} {given}: Ray uses {PORTS} ports from there on, so {_PORTS_END - PORTS} is the "
            "highest port that can be given"
        )
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_cells_port(port: int, node: RayNode) -> None:
    """
    Check where the cells of a host are to publish.

    Raises:
        ConfigError: If Ray has some of the ports.

    """
    _, first = host_port(node.address)
    if port < first + PORTS and first < port + 2 * max(node.room, 1):
        raise ConfigError(
            f"--port {port}: Ray has the ports {first} to {first + PORTS - 1}, and each cell needs "
            "two of its own"
        )


def listening_host(folder: HostFolder, address: str, *, is_ours: bool) -> str:
    """
    Return this host's address, at which its head listens.

    Args:
        folder: This host's folder.
        address: HOST:PORT of the head.
        is_ours: Whether we start Ray here, so that its port must be free until then.

    Raises:
        ConfigError: If the head cannot listen there.

    """
    host, port = host_port(address)
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            raise ConfigError(
                f"--listen {address}: name the one address at which the other hosts reach this one"
            )
    is_there = not is_ours or Kept(folder.path / "ray").is_running()
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(found[0]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, 0 if is_there else port))
    except OSError as error:
        why = _WHY_NOT.get(error.errno or 0, error.strerror)
        raise ConfigError(f"--listen {address}: {why}") from None
    return str(found[4][0])


def own_host(address: str) -> str:
    """Return the address of this host from which the head is reached."""
    host, port = host_port(address)
    with socket.socket(_family(host), socket.SOCK_DGRAM) as probe:
        # Nothing is sent: the system only chooses the way.
        try:
            probe.connect((host, port))
        except OSError as error:
            raise ConfigError(f"no way to {address}: {error.strerror}") from None
        return str(probe.getsockname()[0])


def _family(host: str) -> socket.AddressFamily:
    try:
        return socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        return socket.AF_INET


def asks_for_token(address: str, within_s: float = _TOKEN_S) -> bool | None:
    """Whether Ray at an address refuses who has no token; None if nothing answers there."""
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(_PROBE)(b"", timeout=min(_TOKEN_S, within_s))
        except grpc.RpcError as error:
            code = error.code()
            if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                return None
            return bool(code is grpc.StatusCode.UNAUTHENTICATED)
    return False


def check_token(address: str, within_s: float) -> None:
    """
    Check that Ray at an address asks for a token.

    Raises:
        ConfigError: If it does not, or does not answer in time.

    """
    deadline = time.monotonic() + within_s
    while (asks := asks_for_token(address)) is None:
        if time.monotonic() > deadline:
            raise ConfigError(f"--address {address}: no head of Ray answers there")
        time.sleep(_EVERY_S)
    if not asks:
        raise ConfigError(
            f"--address {address}: that Ray asks for no token, so any process that reaches it can run programs "
            "on its hosts: start it with RAY_AUTH_MODE=token, or add --insecure if that is meant"
        )


@contextlib.contextmanager
def connected(folder: HostFolder, within_s: float) -> Iterator[Any]:
    """
    Be in Ray for the duration of the block, and return the manager's folder on every host.

    Raises:
        ConfigError: If Ray does not answer in time.

    """
    node = node_of(folder)
    os.environ.update({"RAY_BACKEND_LOG_LEVEL": "fatal"} | of_token(node.token))
    # Read when Ray is imported. One attempt takes half of the time: a second one may do better.
    os.environ[_RAY_WAITS] = str(math.ceil(min(60.0, within_s / 2)))
    deadline, ray = time.monotonic() + within_s, None
    while True:
        said = f"the head at {node.address} does not answer"
        # First what costs nothing: after a boot, the cells need the CPU.
        if asks_for_token(node.address, within_s) is not None:
            try:
                ray = _entered(folder, node)
            except (ConnectionError, RuntimeError, ValueError) as error:
                said = str(error).strip().splitlines()[-1]
        if ray is not None:
            break
        if time.monotonic() > deadline:
            log = f"; its log is {folder.path / 'ray/log'}" if node.is_ours else ""
            raise ConfigError(
                f"Ray cannot be reached within {within_s:g} s: {said}{log}. Cells that run go on "
                "without it"
            )
        time.sleep(_EVERY_S)
    try:
        yield ray
    finally:
        ray.shutdown()


def _entered(folder: HostFolder, node: RayNode) -> Any:
    """Enter Ray, which must answer; return its module."""
    with _said_into(folder.path / "driver.log"):
        import ray

        ray.init(
            address=node.address,
            namespace=actors.NAMESPACE,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address=node.host,
        )
    return ray


@contextlib.contextmanager
def _said_into(path: Path) -> Iterator[None]:
    """Have what Ray writes to stderr, past Python, in a file; errors are raised anyway."""
    sys.stderr.flush()
    own = os.dup(2)
    try:
        with path.open("ab") as log:
            os.dup2(log.fileno(), 2)
        yield
    finally:
        os.dup2(own, 2)
        os.close(own)


class Driver:
    """Asks the manager."""

    def __init__(
        self, ray: Any, folder: HostFolder, *, create: bool, answer_s: float = _ANSWER_S
    ) -> None:
        """``answer_s``: how long the manager may take to answer; Ray may be about to start it."""
        self._ray = ray
        self._answer_s = answer_s
        try:
            self._manager = actors.manager(str(folder.path), create=create)
        except ValueError:
            raise ConfigError(
                "Ray runs, but no cluster does: 'collector cluster up' starts one"
            ) from None

    def view(self) -> View:
        """Return the cluster's state."""
        return msgspec.msgpack.decode(self._ask("view"), type=View)

    def want(self, spec: Spec) -> None:
        """Have the cluster be like this."""
        self._ask("want", msgspec.msgpack.encode(spec))

    def await_(self, done: Callable[[View], bool], within_s: float) -> tuple[bool, View]:
        """Wait until the cluster is as it should be; return whether it is, and how it is."""
        deadline = time.monotonic() + within_s
        while not done(view := self.view()) and time.monotonic() < deadline:
            time.sleep(_EVERY_S)
        return done(view), view

    def end(self, within_s: float) -> View:
        """End all cells, and then Ray where it is ours; return how it was before the latter."""
        self._ask("end")
        _, view = self.await_(_is_empty, within_s)
        self._ask("leave")
        actors.forget()
        return view

    def _ask(self, what: str, *arguments: bytes) -> Any:
        """Ask the manager. Ray may be about to start it again, so ask until it answers."""
        from ray.exceptions import ActorDiedError, RayError

        deadline = time.monotonic() + self._answer_s
        while True:
            left_s = max(0.1, deadline - time.monotonic())
            try:
                call = getattr(self._manager, what).remote(*arguments)
                return self._ray.get(call, timeout=left_s)
            except RayError as error:
                if isinstance(error, ActorDiedError) or time.monotonic() > deadline:
                    said = str(error).strip().splitlines()[-1]
                    raise ConfigError(
                        f"the cluster's manager does not answer: {said}. Cells that run go on "
                        "without it"
                    ) from None
            time.sleep(_EVERY_S)


def _is_empty(view: View) -> bool:
    return bool(view.hosts) and not any(row.report.cells for row in view.hosts)


def token_of(folder: HostFolder, given: str | None, *, is_head: bool) -> str:
    """
    Return the file of Ray's token; a head without one gets a new one.

    Raises:
        ConfigError: If there is none, or other users can read it.

    """
    path = Path(given).absolute() if given else folder.token
    if not path.exists() and is_head and not given:
        import secrets

        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    if not path.exists():
        raise ConfigError(
            f"the token {path} is missing: copy it from the head's host, where "
            "'collector cluster up' made it, or name it with --token"
        )
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"the token {path} can be read by other users: chmod 600 {path}")
    return str(path)
