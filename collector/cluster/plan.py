"""
Which cell runs on which host. Pure: specs and reports in, cells for each host out.

Replicas of a part are on different hosts. What runs stays where it is. A cell ends only when enough
others of its part have been complete for a while, so readers have them by then::

    too few of a part      a new cell on the emptiest host that has room
    too many of a part     the one on the fullest host ends, once enough others are settled
    parts of another size  end when the new parts are settled; if there is no room, one by one,
                           and never the last one of its part before the new parts are there
    hosts unequally full   one cell moves: first a new one, then the surplus rule

"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from collector.cluster.spec import CellReport, Placed, Spec

SETTLED_S: Final = 5.0
"""After this time, readers know a cell that is complete."""


class HostView(msgspec.Struct, frozen=True):
    """A host that answers."""

    room: int
    """How many cells it may have."""
    cells: Sequence[CellReport] = ()


class Plan(msgspec.Struct, frozen=True):
    """The cells of every host, and what has no place."""

    cells: Mapping[str, Sequence[Placed]]
    unplaced: Sequence[str] = ()
    """Parts that lack a replica for which no host has room."""


def plan(spec: Spec, hosts: Mapping[str, HostView]) -> Plan:
    """Return what each host is to run next; to be repeated as reports come in."""
    board = _Board(spec, hosts)
    board.drop_surplus()
    unplaced = board.place_missing()
    board.drop_former(unplaced)
    if not unplaced and not board.is_in_motion():
        board.level()
    return Plan(board.cells(), unplaced)


class _Board:
    """The hosts while a plan is made."""

    def __init__(self, spec: Spec, hosts: Mapping[str, HostView]) -> None:
        self._spec = spec
        self._parts = spec.names()
        self._rooms = {name: host.room for name, host in sorted(hosts.items())}
        self._cells = {name: list(hosts[name].cells) for name in self._rooms}

    def cells(self) -> dict[str, Sequence[Placed]]:
        """Return the cells of each host."""
        return {
            name: tuple(Placed(cell.part, cell.slot) for cell in cells)
            for name, cells in self._cells.items()
        }

    def drop_surplus(self) -> None:
        """End what is more than the replicas, as long as enough settled ones remain."""
        for part in self._parts:
            while len(settled := self._holders(part, settled=True)) > self._spec.replicas:
                self._drop(max(settled, key=self._fitness_to_end), part)

    def place_missing(self) -> list[str]:
        """Place missing cells; return the parts for which no host has room."""
        # One replica of every part first.
        return [
            part
            for replicas in range(1, self._spec.replicas + 1)
            for part in self._parts
            if len(self._holders(part)) < replicas and not self._place(part)
        ]

    def drop_former(self, unplaced: Sequence[str]) -> None:
        """End the cells of parts that are no longer wanted, when others have their markets."""
        former = [(host, cell) for host, cell in self._all() if cell.part not in self._parts]
        least = min(len(self._holders(part, settled=True)) for part in self._parts)
        if least >= self._spec.replicas or (unplaced and least >= 1):
            for host, cell in former:
                self._cells[host].remove(cell)
            return
        for host, cell in former if unplaced else ():
            if set(self._holders(cell.part, settled=True)) - {host}:
                # Its room is needed, and another host has the same part.
                self._cells[host].remove(cell)
                return

    def is_in_motion(self) -> bool:
        """Whether something is on its way: a cell that is not settled, or one too many."""
        wanted = self._spec.parts * self._spec.replicas
        cells = [cell for _, cell in self._all()]
        return len(cells) != wanted or any(cell.ready_s < SETTLED_S for cell in cells)

    def level(self) -> None:
        """Begin to move one cell from the fullest to the emptiest host."""
        fullest = max(self._cells, key=self._fullness, default="")
        free = [name for name in self._cells if self._has_room(name)]
        emptiest = min(free, key=self._fullness, default=fullest)
        if not fullest or len(self._cells[fullest]) - len(self._cells[emptiest]) < 2:
            return
        has = {cell.part for cell in self._cells[emptiest]}
        # The first slots stay: their endpoints are those that readers name.
        for cell in sorted(self._cells[fullest], key=lambda one: -one.slot):
            if cell.part not in has:
                self._add(emptiest, cell.part)
                return

    def _all(self) -> Iterator[tuple[str, CellReport]]:
        for host, cells in self._cells.items():
            for cell in tuple(cells):
                yield host, cell

    def _holders(self, part: str, *, settled: bool = False) -> list[str]:
        least = SETTLED_S if settled else -1.0
        return [host for host, cell in self._all() if cell.part == part and cell.ready_s >= least]

    def _fullness(self, host: str) -> tuple[int, str]:
        return len(self._cells[host]), host

    def _fitness_to_end(self, host: str) -> tuple[bool, int, str]:
        """Order hosts: first those whose room a part that lacks a replica could use."""
        lacking = [part for part in self._parts if len(self._holders(part)) < self._spec.replicas]
        return any(host not in self._holders(part) for part in lacking), *self._fullness(host)

    def _has_room(self, host: str) -> bool:
        return len(self._cells[host]) < self._rooms[host]

    def _place(self, part: str) -> bool:
        holders = self._holders(part)
        free = [name for name in self._cells if name not in holders and self._has_room(name)]
        if not free:
            self._exchange(part, holders)
            return False
        names = list(self._cells)
        after = names.index(holders[-1]) if holders else 0

        def order(host: str) -> tuple[int, int]:
            # Among equally full hosts the next one: then none gets all second replicas.
            return len(self._cells[host]), (names.index(host) - after) % len(names)

        self._add(min(free, key=order), part)
        return True

    def _exchange(self, part: str, holders: Sequence[str]) -> None:
        """Begin to move another cell to where there is room, so that this part gets its place."""
        replicas = self._spec.replicas
        if any(len(self._holders(one)) > replicas for one in self._parts):
            # Something moves already.
            return
        for room in (name for name in holders if self._has_room(name)):
            has = {cell.part for cell in self._cells[room]}
            for host, cell in self._all():
                if host not in holders and cell.part not in has and cell.part in self._parts:
                    self._add(room, cell.part)
                    return

    def _add(self, host: str, part: str) -> None:
        used = {cell.slot for cell in self._cells[host]}
        slot = next(number for number in range(len(used) + 1) if number not in used)
        self._cells[host].append(CellReport(part=part, slot=slot))

    def _drop(self, host: str, part: str) -> None:
        self._cells[host] = [cell for cell in self._cells[host] if cell.part != part]
