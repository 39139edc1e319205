"""What the manager knows and decides, without Ray. Pure: reports and the time in, `Wanted` out."""

from collections.abc import Mapping
from typing import Final

from collector.client.cluster_map import CellPlace, ClusterMap
from collector.cluster.plan import HostView, plan
from collector.cluster.spec import HostRow, Placed, Report, Spec, View, Wanted, endpoint

GONE_S: Final = 8.0
"""A host that Ray calls alive, but that has not answered for this time, gets no cells."""
_FIRST_S: Final = 10.0
"""How long a new manager waits for the first reports: what runs already must not be started twice."""


class Board:
    """The hosts, the spec, and what was decided last."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._spec: Spec | None = None
        self._is_told = False
        self._spec_generation = 0
        self._is_ending = False
        self._generation = 0
        self._rooms: Mapping[str, int] = {}
        self._since: dict[str, float] = {}
        self._heard: dict[str, tuple[float, Report]] = {}
        self._wanted: dict[str, Wanted] = {}
        self._problems: dict[str, str] = {}
        self._unplaced: tuple[str, ...] = ()

    def want(self, spec: Spec) -> None:
        """Have the cluster be like this."""
        self._spec, self._is_told, self._is_ending = spec, True, False

    def end(self) -> None:
        """Have no cell run any more."""
        self._is_ending = True

    def hosts(self, rooms: Mapping[str, int], now: float) -> None:
        """Take which hosts Ray knows, and how many cells each may have."""
        self._rooms = rooms
        self._since = {host: self._since.get(host, now) for host in rooms}
        for gone in self._heard.keys() - rooms.keys():
            del self._heard[gone]
            self._wanted.pop(gone, None)
            self._problems.pop(gone, None)

    def report(self, host: str, report: Report, now: float) -> None:
        """Take what a host says."""
        if host not in self._rooms:
            return
        self._heard[host] = (now, report)
        self._problems.pop(host, None)
        if report.generation > self._generation:
            # Somebody planned before us, and that is where we go on.
            self._generation = report.generation
            self._wanted.clear()
        is_newer = self._spec is None or report.generation > self._spec_generation
        if report.spec is not None and not self._is_told and is_newer:
            # What the hosts know is what was typed last.
            self._spec, self._spec_generation = report.spec, report.generation

    def problem(self, host: str, said: str) -> None:
        """Note why a host could not be asked."""
        self._problems[host] = said

    def plan(self, now: float) -> None:
        """Decide again, if enough hosts are known."""
        present = self._present(now)
        if self._spec is None or not self._is_heard(now):
            return
        if self._is_ending:
            cells: Mapping[str, tuple[Placed, ...]] = dict.fromkeys(present, ())
            self._unplaced = ()
        else:
            views = {
                host: HostView(self._rooms[host], report.cells) for host, report in present.items()
            }
            made = plan(self._spec, views)
            cells = {host: tuple(placed) for host, placed in made.cells.items()}
            self._unplaced = tuple(dict.fromkeys(made.unplaced))
        self._decide(self._spec, cells)

    def _decide(self, spec: Spec, cells: Mapping[str, tuple[Placed, ...]]) -> None:
        places = tuple(
            CellPlace(one.part, host, endpoint(host, spec, one.slot))
            for host, placed in cells.items()
            for one in placed
        )
        ending = self._is_ending
        known = {
            host: (one.spec, one.cells, one.map.cells, one.is_ended)
            for host, one in self._wanted.items()
        }
        if all(known.get(host) == (spec, placed, places, ending) for host, placed in cells.items()):
            return
        self._generation += 1
        newest = ClusterMap(self._generation, places)
        for host, placed in cells.items():
            self._wanted[host] = Wanted(
                generation=self._generation,
                host=host,
                spec=spec,
                cells=placed,
                map=newest,
                is_ended=self._is_ending,
            )

    def wanted(self, host: str) -> Wanted | None:
        """Return what a host is to be told; None if it knows."""
        wanted = self._wanted.get(host)
        heard = self._heard.get(host)
        if wanted is None or (heard is not None and heard[1].generation >= wanted.generation):
            return None
        return wanted

    def _is_heard(self, now: float) -> bool:
        """Whether all hosts have reported, or had the time for it."""
        present = self._present(now)
        return bool(present) and (len(present) == len(self._rooms) or now - self._began >= _FIRST_S)

    def _present(self, now: float) -> dict[str, Report]:
        return {host: report for host, (at, report) in self._heard.items() if now - at < GONE_S}

    def view(self, now: float) -> View:
        """Describe the cluster."""
        rows = []
        for host, room in sorted(self._rooms.items()):
            at, report = self._heard.get(host, (self._since[host], Report()))
            rows.append(HostRow(host=host, room=room, silent_s=max(0.0, now - at), report=report))
        return View(
            spec=None if self._is_ending else self._spec,
            generation=self._generation,
            hosts=tuple(rows),
            unplaced=self._unplaced,
            is_heard=self._is_heard(now),
            problems=tuple(f"{host}: {said}" for host, said in sorted(self._problems.items())),
        )
