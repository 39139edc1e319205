"""
What a cluster is to be, what each host is to run, and what a host reports. Pure.

::

    Spec     what was typed: parts, replicas, the options of each cell
    Wanted   the manager to a host: the cells that belong there, and the map for readers
    Report   a host to the manager: what runs there, and since when it is ready
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from collector.client.cluster_map import ClusterMap

FIRST_PORT: Final = 5590


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster is to be."""

    parts: int = 1
    replicas: int = 2
    port: int = FIRST_PORT
    """Where the first cell of a host publishes; each further one is two ports higher."""
    arguments: tuple[str, ...] = ()
    """Options of `collector start`, the same for every cell."""

    def names(self) -> list[str]:
        """Return the names of the parts: ``1/3``, ``2/3``, ``3/3``."""
        return [f"{number}/{self.parts}" for number in range(1, self.parts + 1)]


class Placed(msgspec.Struct, frozen=True):
    """A cell on a host."""

    part: str
    slot: int
    """Which of the host's cells it is, from 0; it decides the ports."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a host is to run. It stays in force until a newer one comes, whatever Ray does."""

    generation: int
    host: str
    """The address at which other hosts reach this one."""
    spec: Spec
    running: Spec | None = None
    """With what its cells run until it is this host's turn to take `spec`; None: with `spec`."""
    cells: Sequence[Placed] = ()
    map: ClusterMap = ClusterMap()
    is_ended: bool = False
    """Whether the cluster is no longer wanted."""

    @property
    def spec_of_cells(self) -> Spec:
        """With what the cells run."""
        return self.running or self.spec


class CellReport(msgspec.Struct, frozen=True, kw_only=True):
    """A cell on a host, as it is."""

    part: str
    slot: int
    endpoint: str = ""
    pid: int = 0
    ready_s: float = -1.0
    """How long it has been complete: all markets live, no gap open. Below 0: it is not."""
    starts: int = 0
    problem: str = ""
    """What its last run said at its end, if that was an error."""

    @property
    def is_ready(self) -> bool:
        """Whether it is complete now."""
        return self.ready_s >= 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A host, as it is."""

    generation: int = 0
    spec: Spec | None = None
    """The spec that it was given last, which outlives the Ray that gave it; None after the end."""
    running: Spec | None = None
    """With what its cells run: `spec`, or the former one until it is this host's turn."""
    cells: Sequence[CellReport] = ()
    problem: str = ""


def endpoint(host: str, spec: Spec, slot: int) -> str:
    """Return where a host's cell publishes."""
    named = f"[{host}]" if ":" in host else host
    return f"tcp://{named}:{spec.port + 2 * slot}"


class HostRow(msgspec.Struct, frozen=True, kw_only=True):
    """A host of a cluster, as the manager knows it."""

    host: str
    room: int
    silent_s: float = 0.0
    """For how long it has not answered, though Ray says that it lives."""
    is_present: bool = True
    """Whether it answers, or its cells do: otherwise they do not count, and others replace them."""
    report: Report = Report()


class LostHost(msgspec.Struct, frozen=True, kw_only=True):
    """A host that ran cells when Ray lost it. They may still run."""

    host: str
    cells: int
    away_s: float


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A whole cluster, as the manager knows it."""

    spec: Spec | None = None
    generation: int = 0
    hosts: Sequence[HostRow] = ()
    lost: Sequence[LostHost] = ()
    unplaced: Sequence[str] = ()
    """Parts that lack a replica for which no host has room."""
    behind: Sequence[str] = ()
    """Hosts whose cells still run with the former options."""
    problems: Sequence[str] = ()
    is_heard: bool = False
    """Whether the hosts have reported, so that a missing spec means that there was none."""

    def ready(self) -> dict[str, int]:
        """Return the number of complete replicas of each wanted part."""
        found = dict.fromkeys(self.spec.names() if self.spec else (), 0)
        for cell in self.cells():
            if cell.is_ready and cell.part in found:
                found[cell.part] += 1
        return found

    def cells(self) -> list[CellReport]:
        """Return the cells of all present hosts."""
        return [cell for row in self.hosts if row.is_present for cell in row.report.cells]

    @property
    def is_whole(self) -> bool:
        """Whether every part has all its replicas, complete, and nothing else runs."""
        spec, ready = self.spec, self.ready()
        return (
            spec is not None
            and all(count >= spec.replicas for count in ready.values())
            and len(self.cells()) == spec.parts * spec.replicas
        )
