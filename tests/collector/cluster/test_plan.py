"""The planner: whatever happens to the hosts, it ends with all replicas, and never takes the last one."""

from collections import Counter

import msgspec
from hypothesis import given, settings, strategies as st

from collector.cluster.plan import SETTLED_S, HostView, plan
from collector.cluster.spec import CellReport, Spec
from tests.searches import examples

NAMES = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")


class World:
    """Hosts that do what the plan says; a cell is complete one turn after its start."""

    def __init__(self, rooms: dict[str, int]) -> None:
        self.rooms = dict(rooms)
        self.cells: dict[str, dict[int, CellReport]] = {name: {} for name in rooms}
        self.down: set[str] = set()
        self.unplaced: tuple[str, ...] = ()

    def turn(self, spec: Spec) -> bool:
        """Plan once and do it; return whether anything changed."""
        hosts = {
            name: HostView(self.rooms[name], tuple(cells.values()))
            for name, cells in self.cells.items()
            if name not in self.down
        }
        before = self.holders()
        made = plan(spec, hosts)
        self.unplaced = tuple(made.unplaced)
        changed = False
        for name, placed in made.cells.items():
            assert len({one.slot for one in placed}) == len(placed)
            assert len({one.part for one in placed}) == len(placed)
            cells = {one.slot: self._next(name, one.part, one.slot) for one in placed}
            changed |= cells != self.cells[name]
            self.cells[name] = cells
        after = self.holders()
        if sum(before.values()) and spec.replicas > 1:
            self._keeps_one(before, spec)
        del after
        return changed

    def _next(self, name: str, part: str, slot: int) -> CellReport:
        known = self.cells[name].get(slot)
        if known is None or known.part != part:
            return CellReport(part=part, slot=slot)
        return msgspec.structs.replace(known, ready_s=SETTLED_S + 1)

    def _keeps_one(self, before: Counter[str], spec: Spec) -> None:
        """A settled part stays settled until the parts of the new size are there."""
        now = self.holders()
        new = all(now[part] for part in spec.names())
        for part, count in before.items():
            if count and not new:
                assert now[part], (part, before, now)

    def holders(self) -> Counter[str]:
        """Count the settled cells of each part."""
        return Counter(
            cell.part
            for name, cells in self.cells.items()
            if name not in self.down
            for cell in cells.values()
            if cell.ready_s >= SETTLED_S
        )

    def settle(self, spec: Spec) -> None:
        """Turn until nothing changes."""
        for _ in range(200):
            if not self.turn(spec):
                return
        raise AssertionError("it never rests")

    def everything_is_placed(self, spec: Spec) -> None:
        """Each part has its replicas on different hosts, and nothing else runs."""
        parts = Counter(
            cell.part
            for name, cells in self.cells.items()
            if name not in self.down
            for cell in cells.values()
        )
        assert parts == dict.fromkeys(spec.names(), spec.replicas)
        assert not self.unplaced


specs = st.builds(Spec, parts=st.integers(1, 4), replicas=st.integers(1, 2))


def world(room: int) -> World:
    return World(dict.fromkeys(NAMES, room))


@given(specs)
@settings(max_examples=examples(100), deadline=None)
def test_replicas_are_on_different_hosts_and_hosts_are_equally_full(spec: Spec) -> None:
    hosts = world(room=4)
    hosts.settle(spec)
    hosts.everything_is_placed(spec)
    sizes = [len(cells) for cells in hosts.cells.values()]
    assert max(sizes) - min(sizes) <= 1


@given(specs, st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=8))
@settings(max_examples=examples(300), deadline=None)
def test_hosts_come_and_go_and_all_is_placed_again(
    spec: Spec, events: list[tuple[str, bool]]
) -> None:
    hosts = world(room=8)
    hosts.settle(spec)
    for name, forgets in events:
        # One host at a time. It comes back with its cells, or with nothing.
        hosts.down = {name}
        hosts.settle(spec)
        hosts.everything_is_placed(spec)
        hosts.down = set()
        if forgets:
            hosts.cells[name] = {}
        hosts.settle(spec)
        hosts.everything_is_placed(spec)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(3, 6))
@settings(max_examples=examples(200), deadline=None)
def test_parts_of_another_size_come_before_the_former_end(sizes: list[int], room: int) -> None:
    hosts = world(room=room)
    for parts in sizes:
        spec = Spec(parts=parts, replicas=2)
        hosts.settle(spec)
        # Four hosts of three cells hold twelve: as many as the largest size needs.
        hosts.everything_is_placed(spec)


def test_without_room_it_says_what_has_no_place() -> None:
    hosts = World({"a": 1, "b": 1})
    hosts.settle(Spec(parts=2, replicas=2))
    assert set(hosts.unplaced) == {"1/2", "2/2"}
    assert all(len(cells) == 1 for cells in hosts.cells.values())
    assert {cell.part for cells in hosts.cells.values() for cell in cells.values()} == {
        "1/2",
        "2/2",
    }


def test_what_runs_stays_where_it_is() -> None:
    spec = Spec(parts=2, replicas=2)
    hosts = world(room=4)
    hosts.settle(spec)
    before = {name: dict(cells) for name, cells in hosts.cells.items()}
    hosts.down = {NAMES[0]}
    hosts.settle(spec)
    for name in NAMES[1:]:
        assert before[name].keys() <= hosts.cells[name].keys()
