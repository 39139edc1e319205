"""What the manager knows and decides, without Ray. Pure: reports and the time in, `Wanted` out."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from collector.client.cluster_map import CellPlace, ClusterMap
from collector.cluster.plan import HostView, plan
from collector.cluster.roll import Roll
from collector.cluster.rollout import Rollout, has_same_options
from collector.cluster.spec import Placed, Report, Spec, View, Wanted, endpoint

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
        self._roll = Roll(now)
        self._rollout = Rollout()
        self._wanted: dict[str, Wanted] = {}
        self._unplaced: tuple[str, ...] = ()

    def want(self, spec: Spec) -> None:
        """Have the cluster be like this."""
        self._spec, self._is_told, self._is_ending = spec, True, False
        self._unplaced = ()

    def end(self) -> None:
        """Have no cell run any more."""
        self._is_ending = True

    def hosts(self, rooms: Mapping[str, int], now: float) -> None:
        """Take which hosts Ray knows, and how many cells each may have; once a turn."""
        self._roll.take(rooms, now)
        self._wanted = {host: one for host, one in self._wanted.items() if host in rooms}

    def expect(self, host: str, now: float) -> None:
        """Note that a host's agent starts now: the host cannot answer until it runs."""
        self._roll.expect(host, now)

    def report(self, host: str, report: Report, now: float) -> None:
        """Take what a host says."""
        if host not in self._roll.rooms:
            return
        self._roll.report(host, report, now)
        if report.generation > self._generation:
            # Somebody planned before us, and that is where we go on.
            self._generation = report.generation
            self._wanted.clear()
        is_newer = self._spec is None or report.generation > self._spec_generation
        if report.spec is not None and not self._is_told and is_newer:
            # What the hosts know is what was typed last.
            self._spec, self._spec_generation = report.spec, report.generation

    def quiet(self, now: float) -> Mapping[str, Sequence[str]]:
        """Return hosts that have not answered for a moment, with the endpoints of their cells."""
        return self._roll.quiet(now)

    def serves(self, host: str, now: float) -> None:
        """Note that all cells of a quiet host accept connections."""
        self._roll.serves(host, now)

    def problem(self, host: str, said: str) -> None:
        """Note why a host could not be asked."""
        self._roll.problem(host, said)

    def plan(self, now: float) -> None:
        """Decide again, if enough hosts are known."""
        present = self._roll.present(now)
        if self._spec is None or not self._is_heard(now):
            return
        if self._is_ending:
            cells: Mapping[str, tuple[Placed, ...]] = dict.fromkeys(present, ())
            runs = dict.fromkeys(present, self._spec)
            self._unplaced = ()
        else:
            views = {
                host: HostView(self._roll.room(host, now), report.cells)
                for host, report in present.items()
            }
            made = plan(self._spec, views)
            cells = {host: tuple(placed) for host, placed in made.cells.items()}
            runs = self._rollout.next(self._spec, present, now)
            self._unplaced = tuple(dict.fromkeys(made.unplaced))
        self._decide(self._spec, runs, cells)

    def _decide(
        self,
        spec: Spec,
        runs: Mapping[str, Spec],
        cells: Mapping[str, tuple[Placed, ...]],
    ) -> None:
        places = tuple(
            CellPlace(one.part, host, endpoint(host, runs[host], one.slot))
            for host, placed in cells.items()
            for one in placed
        )
        generation = self._generation + 1
        newest = {
            host: Wanted(
                generation=generation,
                host=host,
                spec=spec,
                running=runs[host],
                cells=placed,
                map=ClusterMap(generation, places),
                is_ended=self._is_ending,
            )
            for host, placed in cells.items()
        }
        known = {host: self._wanted.get(host) for host in newest}
        if all(_says_the_same(one, known[host]) for host, one in newest.items()):
            return
        self._generation = generation
        self._wanted.update(newest)

    def wanted(self, host: str) -> Wanted | None:
        """Return what a host is to be told; None if it knows."""
        wanted = self._wanted.get(host)
        if wanted is None or self._roll.knows(host, wanted.generation):
            return None
        return wanted

    def _is_heard(self, now: float) -> bool:
        """Whether all hosts have reported, or had the time for it."""
        present, all_hosts = self._roll.present(now), self._roll.rooms
        return bool(present) and (len(present) == len(all_hosts) or now - self._began >= _FIRST_S)

    def _behind(self, now: float) -> Sequence[str]:
        """Return the hosts whose cells still run with the former options."""
        spec = self._spec
        return tuple(
            host
            for host, report in sorted(self._roll.present(now).items())
            if spec is not None
            and report.cells
            and report.running is not None
            and not has_same_options(report.running, spec)
        )

    def view(self, now: float) -> View:
        """Describe the cluster."""
        return View(
            spec=None if self._is_ending else self._spec,
            generation=self._generation,
            hosts=self._roll.rows(now),
            lost=self._roll.lost(now),
            unplaced=self._unplaced,
            behind=self._behind(now),
            is_heard=self._is_heard(now),
            problems=self._roll.problems(),
        )


def _says_the_same(one: Wanted, known: Wanted | None) -> bool:
    """Whether they differ in their generation only."""
    if known is None:
        return False
    places = ClusterMap(known.generation, one.map.cells)
    return msgspec.structs.replace(one, generation=known.generation, map=places) == known
