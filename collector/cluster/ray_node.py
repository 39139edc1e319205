"""
Ray on this host: how it is started, with which settings, and kept running.

Ray's own ways are changed where they would hurt a collector:

- A process that reaches Ray's ports can run programs as this user. So Ray asks for a token (RAY_AUTH_MODE),
  and listens on loopback by default. With any other address it listens on all of them. The token is
  not encrypted on the wire: keep Ray's ports inside a private network.
- Ray forgets everything when its head dies. The head keeps its state in a RocksDB folder.
- When Ray gives a host up, all of Ray ends there, also after a short cut of its network. Here that
  takes 1 min if the host refuses connections, and 3 min if it is silent. The manager does not wait
  for it (roll.py). A host that was given up notices that after a minute. Here it takes 2 s; then its Ray
  ends, and is started again.
- Ray's ports are random. Here they are the hundred from the head's on, the same on every host, for
  the sake of firewalls.
- On a very busy machine Ray ends during its start, because its own agents are not ready after 15 s.
  The keeper starts it again.
- Ray starts a worker for each CPU beforehand, and again for each command that connects. That is
  off: a host has one agent, and the head's host the manager.
- Ray kills processes when the host's memory is at 95 %. That monitor is off: the cells are not its.
- `ray start` ends when one of its processes does. It is started again, by the keeper.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import psutil

from collector.cluster.folder import HostFolder, read
from collector.cluster.processes import Kept

_REST_S: Final = 3.0
_SETTINGS: Final = {
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "60",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "3600",
    "RAY_raylet_liveness_self_check_interval_ms": "2000",
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_open_telemetry": "0",
}
_MARK: Final = "RAY_OF_COLLECTOR"
"""Names the folder in the environment of all that this Ray starts."""
PORTS: Final = 100
"""Number of Ray's ports, beginning with the head's."""
_PORTS: Final = (
    *("node-manager", "object-manager", "dashboard-agent-listen", "dashboard-agent-grpc"),
    *("runtime-env-agent", "metrics-export"),
)
_FIRST_WORKER: Final = 20
_MEMORY: Final = 80_000_000
"""Bytes of Ray's object store, the least that it takes: nothing is put into it."""


class RayNode(msgspec.Struct, frozen=True, kw_only=True):
    """How Ray is started on this host, and reached."""

    address: str
    """HOST:PORT of the head."""
    is_head: bool = False
    host: str
    """This host's address, as the others reach it."""
    room: int
    """How many cells this host may have; Ray calls it CPUs."""
    token: str
    """The token's file; empty: Ray asks for none."""
    is_ours: bool = True
    """Whether the keeper starts Ray here; otherwise somebody else does."""


class KeptRay:
    """Ray on this host, kept running if it is ours."""

    def __init__(self, folder: HostFolder) -> None:
        self._folder = folder
        self._kept = Kept(folder.path / "ray")
        self._started_at = 0.0

    def keep(self, now: float, *, may_start: bool) -> bool:
        """Start Ray again if it has ended, and it may start now; return whether it is wanted."""
        node = read(self._folder.ray, RayNode)
        if node is None or not node.is_ours:
            if self._kept.is_running():
                self.end()
            return False
        self._kept.trim()
        command = command_of(node, temporary_of(self._folder.path))
        if self._kept.is_running():
            if self._kept.was_started_with(command):
                return True
            # `up` was run again, with another address or room. The cells go on.
            self.end()
        if may_start and (not self._started_at or now - self._started_at >= _REST_S):
            self._started_at = now
            self._sweep()
            self._kept.start(command, "ray", environment(node, self._folder.path))
        return True

    def end(self) -> None:
        """End Ray here, and what it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if self._kept.is_running() and self._kept.record is not None:
                psutil.Process(self._kept.record.pid).kill()
        self._sweep()

    def _sweep(self) -> None:
        """End processes of a former Ray of ours, which would hold its ports."""
        ours = str(self._folder.path)
        session = self._kept.session()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                # Ray's agents overwrite their environment with their title.
                is_child = session and os.getsid(process.pid) == session
                if is_child or process.environ().get(_MARK) == ours:
                    process.kill()


def temporary_of(folder: Path) -> Path:
    """Return the folder of Ray's logs and sockets that belongs to a host's folder."""
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"collector-ray-{os.getuid()}-{name}"


def command_of(node: RayNode, temporary: Path) -> list[str]:
    """Return the command that runs Ray on this host."""
    ray = str(Path(sys.executable).parent / "ray")
    fixed = ["--block", "--num-cpus", str(node.room), "--node-ip-address", node.host]
    fixed += ["--object-store-memory", str(_MEMORY), "--disable-usage-stats"]
    fixed += ["--temp-dir", str(temporary), "--include-log-monitor", "false"]
    first = int(node.address.rpartition(":")[2])
    for number, name in enumerate(_PORTS, 1):
        fixed += [f"--{name}-port", str(first + number)]
    fixed += ["--min-worker-port", str(first + _FIRST_WORKER)]
    fixed += ["--max-worker-port", str(first + PORTS - 1)]
    if not node.is_head:
        return [ray, "start", "--address", node.address, *fixed]
    own = ["--port", str(first), "--ray-client-server-port", str(first + len(_PORTS) + 1)]
    own += ["--dashboard-port", str(first + len(_PORTS) + 2), "--include-dashboard", "false"]
    # The monitor is the autoscaler's, and it answers everyone, at a port outside of the hundred.
    own += ["--no-monitor"]
    return [ray, "start", "--head", *own, *fixed]


def environment(node: RayNode, folder: Path) -> dict[str, str]:
    """Return the environment of a process of Ray, or of one that asks it."""
    mark = {_MARK: str(folder)}
    found: Mapping[str, str] = {**os.environ, **_SETTINGS, **of_token(node.token), **mark}
    if node.is_head:
        store = folder / "gcs"
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = {**found, "RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(store)}
    return dict(found)


def of_token(token: str) -> dict[str, str]:
    """Return the settings with which Ray finds its token."""
    if not token:
        return {"RAY_AUTH_MODE": "disabled"}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token}
