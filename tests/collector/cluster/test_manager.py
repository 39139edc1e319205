"""What the manager decides, and that a new one goes on where the last one was."""

from collector.cluster.manager import GONE_S, Board
from collector.cluster.spec import CellReport, Report, Spec, Wanted

ROOMS = {"10.0.0.1": 4, "10.0.0.2": 4, "10.0.0.3": 4}
SPEC = Spec(parts=3, replicas=2, arguments=("--network", "mainnet"))


class Hosts:
    """Hosts that carry out each request at once."""

    def __init__(self) -> None:
        self.told: dict[str, Wanted] = {}

    def report(self, host: str) -> Report:
        """Report what is wanted as complete."""
        wanted = self.told.get(host)
        if wanted is None:
            return Report()
        cells = tuple(
            CellReport(part=one.part, slot=one.slot, ready_s=60.0) for one in wanted.cells
        )
        spec = None if wanted.is_ended else wanted.spec
        return Report(generation=wanted.generation, spec=spec, cells=cells)

    def turn(self, board: Board, now: float, present: dict[str, int]) -> None:
        """Let a board ask all present hosts, plan, and tell."""
        board.hosts(present, now)
        for host in present:
            if (wanted := board.wanted(host)) is not None:
                self.told[host] = wanted
            board.report(host, self.report(host), now)
        board.plan(now)

    def turns(self, board: Board, now: float, present: dict[str, int]) -> None:
        """Do so until nothing changes any more."""
        for _ in range(50):
            self.turn(board, now, present)

    def cells(self) -> int:
        """Count what is wanted on all hosts."""
        return sum(len(wanted.cells) for wanted in self.told.values())


def started() -> tuple[Hosts, Board]:
    hosts, board = Hosts(), Board(0.0)
    board.want(SPEC)
    hosts.turns(board, 1.0, ROOMS)
    return hosts, board


def test_a_cluster_is_placed_and_every_host_knows_all_endpoints() -> None:
    hosts, board = started()
    assert board.view(2.0).is_whole
    maps = {tuple(wanted.map.cells) for wanted in hosts.told.values()}
    assert len(maps) == 1
    assert len(maps.pop()) == 6
    endpoints = {place.endpoint for place in hosts.told["10.0.0.1"].map.cells}
    assert "tcp://10.0.0.1:5590" in endpoints
    assert len(endpoints) == 6


def test_a_lost_host_is_replaced_and_comes_back_with_cells_too_many() -> None:
    hosts, board = started()
    left = {host: room for host, room in ROOMS.items() if host != "10.0.0.3"}
    former = hosts.told.pop("10.0.0.3")
    hosts.turns(board, 3.0, left)
    assert hosts.cells() == 6
    # It was only cut off: its cells run as they did before.
    hosts.told["10.0.0.3"] = former
    hosts.turns(board, 4.0, ROOMS)
    assert hosts.cells() == 6
    assert board.view(4.0).is_whole


def test_a_new_manager_under_an_empty_ray_adopts_what_runs() -> None:
    hosts, board = started()
    before = {host: wanted.cells for host, wanted in hosts.told.items()}
    board.want(Spec(parts=3, replicas=2, arguments=("--network", "testnet")))
    hosts.turns(board, 2.0, ROOMS)
    generation = board.view(2.0).generation
    new = Board(100.0)
    hosts.turns(new, 101.0, ROOMS)
    assert new.view(101.0).spec == board.view(2.0).spec
    assert {host: wanted.cells for host, wanted in hosts.told.items()} == before
    assert new.view(101.0).generation >= generation


def test_a_new_manager_waits_for_the_hosts_before_it_starts_anything() -> None:
    hosts, _ = started()
    new = Board(100.0)
    new.hosts(ROOMS, 100.0)
    new.report("10.0.0.1", hosts.report("10.0.0.1"), 100.5)
    new.plan(100.5)
    assert all(new.wanted(host) is None for host in ROOMS)
    new.report("10.0.0.1", hosts.report("10.0.0.1"), 111.0)
    new.plan(111.0)
    assert new.wanted("10.0.0.1") is not None


def test_the_newest_spec_counts_whoever_answers_first() -> None:
    hosts, board = started()
    hosts.told["10.0.0.3"] = Wanted(
        generation=1, host="10.0.0.3", spec=Spec(parts=1, replicas=1), cells=()
    )
    board.want(Spec(parts=2, replicas=2))
    left = {host: room for host, room in ROOMS.items() if host != "10.0.0.3"}
    hosts.turns(board, 2.0, left)
    for order in (sorted(ROOMS), sorted(ROOMS, reverse=True)):
        new = Board(100.0)
        new.hosts(ROOMS, 100.0)
        for host in order:
            new.report(host, hosts.report(host), 100.0)
        assert new.view(100.0).spec == Spec(parts=2, replicas=2)


def test_a_host_that_does_not_answer_is_planned_without() -> None:
    hosts, board = started()
    now = 1.0 + GONE_S + 1
    board.hosts(ROOMS, now)
    for host in sorted(ROOMS)[:2]:
        board.report(host, hosts.report(host), now)
    board.plan(now)
    told = [wanted for host in ROOMS if (wanted := board.wanted(host)) is not None]
    assert sum(len(wanted.cells) for wanted in told) == 6
    assert all(wanted.host != "10.0.0.3" for wanted in told)


def test_the_end_is_remembered_by_the_hosts() -> None:
    hosts, board = started()
    board.end()
    hosts.turns(board, 2.0, ROOMS)
    assert hosts.cells() == 0
    new = Board(100.0)
    hosts.turns(new, 101.0, ROOMS)
    assert hosts.cells() == 0
    assert new.view(101.0).spec is None
