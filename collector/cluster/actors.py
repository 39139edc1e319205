"""
What runs inside Ray: one agent on each host, and one manager for the cluster.

Both are detached, named actors that Ray starts again without limit (by default it would not even
once). An agent only hands over: `Wanted` to its host's folder, the `Report` back. The manager plans.
It has nothing of its own to lose: the hosts keep the spec, so a new manager, even one under a new
and empty Ray, continues from what the hosts report.

After a partition two managers may be alive for a moment. The one that was cut off cannot ask Ray for
the hosts, and so does nothing; Ray ends it when the partition heals.
"""

import contextlib
import logging
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.cluster import keeper
from collector.cluster.folder import HostFolder
from collector.cluster.manager import Board
from collector.cluster.processes import save
from collector.cluster.spec import CellReport, Report, Spec, Wanted, endpoint
from collector.settings.addresses import host_port

log = logging.getLogger(__name__)

NAMESPACE: Final = "collector"
MANAGER: Final = "manager"
_TURN_S: Final = 0.5
_HEAR_S: Final = 0.2
_CONNECT_S: Final = 0.3
_LEAVE_S: Final = 2.0
_ON_HEAD: Final = {"node:__internal_head__": 0.001}
"""
The manager runs where the head is. Without the head it could not place anything, and so no other
host's loss is one of the manager as well.
"""
_encode: Final = msgspec.msgpack.encode


class HostAgent:
    """Hands over between the manager and the keeper of one host."""

    def __init__(self, folder: str) -> None:
        self._folder = HostFolder(Path(folder))

    def turn(self, wanted: bytes) -> bytes:
        """Take what is wanted, if something new is; return what runs."""
        if wanted:
            newest = msgspec.msgpack.decode(wanted, type=Wanted)
            known = self._folder.read_wanted()
            if known is None or newest.generation > known.generation:
                self._folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                save(self._folder.wanted, newest, synced=True)
        keeper.ensure_if_needed(self._folder)
        return _encode(report_of(self._folder.read_wanted(), self._folder.read_report()))

    def leave(self) -> None:
        """Have the keeper end Ray here if it is ours, and then itself."""
        self._folder.leaving.touch()


def report_of(wanted: Wanted | None, kept: Report) -> Report:
    """Return what is wanted on a host, with what the keeper says about it."""
    if wanted is None:
        return Report()
    # What the keeper said before it read this may be true no longer: it may restart the cells.
    said = kept.cells if kept.generation == wanted.generation else ()
    known = {(cell.part, cell.slot): cell for cell in said}
    cells = []
    for placed in wanted.cells:
        at = endpoint(wanted.host, wanted.spec_of_cells, placed.slot)
        fresh = CellReport(part=placed.part, slot=placed.slot, endpoint=at)
        cells.append(known.get((placed.part, placed.slot), fresh))
    spec = None if wanted.is_ended else wanted.spec
    running = wanted.spec_of_cells
    return Report(generation=wanted.generation, spec=spec, running=running, cells=tuple(cells))


class Manager:
    """Asks the hosts, plans, and tells them, twice a second."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._board = Board(time.monotonic())
        self._lock = threading.Lock()
        self._agents: dict[str, Any] = {}
        self._asked: dict[str, Any] = {}
        self._known: set[str] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # -- for the driver ----------------------------------------------------------------

    def want(self, spec: bytes) -> None:
        """Have the cluster be like this from now on."""
        with self._lock:
            self._board.want(msgspec.msgpack.decode(spec, type=Spec))

    def end(self) -> None:
        """Have no cell run any more."""
        with self._lock:
            self._board.end()

    def leave(self) -> None:
        """Have every host leave the cluster, and end its Ray, in a moment."""
        import ray

        ray.wait([agent.leave.remote() for agent in self._agents.values()], timeout=_LEAVE_S)

    def view(self) -> bytes:
        """Return a `View`."""
        with self._lock:
            return _encode(self._board.view(time.monotonic()))

    # -- the work ----------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self._turn()
            except Exception:
                # Ray's errors have no common root. Whatever it was: ask again.
                log.exception("a turn failed")
            time.sleep(max(0.05, _TURN_S - (time.monotonic() - began)))

    def _turn(self) -> None:
        import ray

        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        if ray.get_runtime_context().get_node_id() not in nodes:
            # Ray has given this host up, and this manager with it.
            return
        now = time.monotonic()
        with self._lock:
            self._board.hosts(
                {
                    node["NodeManagerAddress"]: int(node["Resources"].get("CPU", 0))
                    for node in nodes.values()
                },
                now,
            )
        for node_id in self._agents.keys() - nodes.keys():
            del self._agents[node_id]
            self._asked.pop(node_id, None)
        self._known &= nodes.keys()
        # Answers to the last turn's questions: what they change is sent in the same turn.
        self._hear(nodes)
        self._try_cells()
        with self._lock:
            self._board.plan(time.monotonic())
        for node_id, node in nodes.items():
            self._ask(node_id, node["NodeManagerAddress"])

    def _ask(self, node_id: str, host: str) -> None:
        if node_id in self._asked:
            return
        if node_id not in self._agents:
            self._agents[node_id] = _agent(node_id, self._folder)
            if node_id not in self._known:
                self._known.add(node_id)
                with self._lock:
                    self._board.expect(host, time.monotonic())
        with self._lock:
            wanted = self._board.wanted(host)
        told = b"" if wanted is None else _encode(wanted)
        self._asked[node_id] = self._agents[node_id].turn.remote(told)

    def _hear(self, nodes: dict[str, Any]) -> None:
        """Take the reports that come in time; the others are waited for in the next turn."""
        import ray
        from ray.exceptions import RayError

        if not self._asked:
            return
        by_ref = {ref: node_id for node_id, ref in self._asked.items()}
        ready, _ = ray.wait(list(by_ref), num_returns=len(by_ref), timeout=_HEAR_S)
        for ref in ready:
            node_id = by_ref[ref]
            host = nodes[node_id]["NodeManagerAddress"]
            del self._asked[node_id]
            try:
                report = msgspec.msgpack.decode(ray.get(ref), type=Report)
            except (RayError, msgspec.DecodeError) as error:
                self._failed(node_id, host, error)
                continue
            with self._lock:
                self._board.report(host, report, time.monotonic())

    def _try_cells(self) -> None:
        """Try the cells of hosts that do not answer: they go on if only Ray has ended there."""
        with self._lock:
            quiet = self._board.quiet(time.monotonic())
        for host, endpoints in quiet.items():
            if all(map(_listens, endpoints)):
                with self._lock:
                    self._board.serves(host, time.monotonic())

    def _failed(self, node_id: str, host: str, error: Exception) -> None:
        from ray.exceptions import ActorDiedError

        said = str(error).strip().splitlines() or [type(error).__name__]
        with self._lock:
            self._board.problem(host, f"{type(error).__name__}: {said[-1]:.200}")
        if isinstance(error, ActorDiedError):
            # Its name is free again.
            self._agents.pop(node_id, None)


def _listens(endpoint: str) -> bool:
    """Whether something accepts connections there."""
    host, port = host_port(endpoint.removeprefix("tcp://"))
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError:
        return False
    return True


def _agent(node_id: str, folder: str) -> Any:
    """Return the agent of a host; start it if there is none."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return (
        ray.remote(HostAgent)
        .options(
            name=f"agent {node_id}",
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=0,
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        )
        .remote(folder)
    )


def manager(folder: str, *, create: bool) -> Any:
    """
    Return the cluster's manager.

    Raises:
        ValueError: If there is none, and none is to be started.

    """
    import ray

    if not create:
        return ray.get_actor(MANAGER, namespace=NAMESPACE)
    return (
        ray.remote(Manager)
        .options(
            name=MANAGER,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=8,
            num_cpus=0,
            resources=_ON_HEAD,
        )
        .remote(folder)
    )


def forget() -> None:
    """End the actors: for a Ray that others run."""
    import ray

    for row in ray.util.list_named_actors(all_namespaces=True):
        if row["namespace"] == NAMESPACE:
            with contextlib.suppress(ValueError):
                ray.kill(ray.get_actor(row["name"], namespace=NAMESPACE), no_restart=True)
