"""What the manager decides, and that a new one goes on where the last one was."""

from collections import Counter

import msgspec

from collector.cluster.actors import report_of
from collector.cluster.manager import Board
from collector.cluster.roll import GONE_S, SERVING_S, START_S
from collector.cluster.spec import CellReport, LostHost, Placed, Report, Spec, Wanted

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
        return Report(
            generation=wanted.generation, spec=spec, running=wanted.spec_of_cells, cells=cells
        )

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


TWO = sorted(ROOMS)[:2]


def replaced(hosts: Hosts, board: Board, since: float, *, seconds: float) -> float:
    """Let only two hosts answer; return when they were told to have all six cells, or 0."""
    for step in range(1, int(seconds * 2) + 1):
        now = since + step / 2
        board.hosts(ROOMS, now)
        for host in TWO:
            board.report(host, hosts.report(host), now)
        board.plan(now)
        told = [board.wanted(host) or hosts.told[host] for host in TWO]
        if sum(len(wanted.cells) for wanted in told) == 6:
            return now - since
    return 0.0


def test_a_host_that_does_not_answer_is_planned_without() -> None:
    hosts, board = started()
    hosts.turns(board, 20.0, ROOMS)
    # Ray calls it alive for longer.
    after = replaced(hosts, board, 20.0, seconds=20)
    assert 0 < after <= GONE_S + 0.5
    assert board.wanted("10.0.0.3") is None
    # What it reported last does not count.
    view = board.view(20.0 + after)
    assert [row.host for row in view.hosts if row.is_present] == TWO
    assert not view.is_whole
    assert sum(view.ready().values()) == 4


def test_a_pause_of_the_manager_is_no_silence_of_the_hosts() -> None:
    hosts, board = started()
    # It could ask no one: Ray's head was away. Two hosts answer at once, the third one soon.
    assert replaced(hosts, board, 61.0, seconds=GONE_S - 1.0) == 0
    board.report("10.0.0.3", hosts.report("10.0.0.3"), 61.0 + GONE_S - 0.5)
    assert replaced(hosts, board, 61.0 + GONE_S - 0.5, seconds=1.0) == 0


def test_a_host_whose_agent_starts_has_the_time_for_it() -> None:
    hosts, board = started()
    board.hosts(ROOMS, 1.5)
    board.expect("10.0.0.3", 1.5)
    assert replaced(hosts, board, 1.5, seconds=START_S - 1.0) == 0
    assert replaced(hosts, board, 1.5 + START_S - 1.0, seconds=2.0) > 0


def test_a_host_without_ray_keeps_its_cells_while_they_serve() -> None:
    hosts, board = started()
    now, until = 1.0, 0.0
    while not until and now < 100:
        now += 0.5
        if "10.0.0.3" in board.quiet(now):
            board.serves("10.0.0.3", now)
        if replaced(hosts, board, now - 0.5, seconds=0.5):
            until = now - 1.0
    assert SERVING_S < until <= SERVING_S + GONE_S + 1
    assert board.quiet(2.0) == {}


def test_a_lost_host_is_named_until_it_is_back() -> None:
    hosts, board = started()
    left = {host: ROOMS[host] for host in TWO}
    hosts.turns(board, 2.0, left)
    assert board.view(5.0).lost == (LostHost(host="10.0.0.3", cells=2, away_s=3.0),)
    hosts.turns(board, 6.0, ROOMS)
    assert board.view(6.0).lost == ()


class SlowHosts(Hosts):
    """Hosts whose cells are complete three seconds after a start, or never with bad options."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.began: dict[tuple[str, Placed, Spec], float] = {}
        self.kept: dict[str, Report] = {}
        """What each host's keeper said last."""

    def report(self, host: str) -> Report:
        """Report as an agent does; the keeper reads the orders after that."""
        wanted, said = self.told.get(host), self.kept.get(host, Report())
        if wanted is None:
            return Report()
        running = {(host, one, wanted.spec_of_cells) for one in wanted.cells}
        for known in [key for key in self.began if key[0] == host and key not in running]:
            del self.began[known]
        cells = []
        for key in running:
            self.began.setdefault(key, self.now)
            age = self.now - self.began[key] if self.is_complete(key) else -1.0
            cells.append(CellReport(part=key[1].part, slot=key[1].slot, ready_s=age))
        self.kept[host] = Report(generation=wanted.generation, cells=tuple(cells))
        return report_of(wanted, said)

    def is_complete(self, cell: tuple[str, Placed, Spec]) -> bool:
        return self.now - self.began[cell] >= 3 and "bad" not in cell[2].arguments

    def replicas(self) -> Counter[str]:
        """Count the complete cells of each part, as they are."""
        return Counter(one[1].part for one in self.began if self.is_complete(one))


def rolled(hosts: SlowHosts, board: Board, *, seconds: float) -> int:
    """Let time pass; return the fewest complete replicas that any part had."""
    fewest = SPEC.replicas
    for _ in range(int(2 * seconds)):
        hosts.now += 0.5
        hosts.turn(board, hosts.now, ROOMS)
        fewest = min(fewest, *(hosts.replicas()[part] for part in SPEC.names()))
    return fewest


def slowly_started() -> tuple[SlowHosts, Board]:
    hosts, board = SlowHosts(), Board(0.0)
    board.want(SPEC)
    rolled(hosts, board, seconds=20)
    assert board.view(hosts.now).is_whole
    return hosts, board


def test_new_options_reach_one_host_after_the_other() -> None:
    hosts, board = slowly_started()
    new = msgspec.structs.replace(SPEC, arguments=("--network", "testnet"), port=7000)
    board.want(new)
    assert rolled(hosts, board, seconds=2) == 1
    assert len(board.view(hosts.now).behind) == 2
    # A manager that starts meanwhile goes on with it.
    board = Board(hosts.now)
    assert rolled(hosts, board, seconds=60) == 1
    view = board.view(hosts.now)
    assert view.is_whole
    assert view.spec == new
    assert view.behind == ()
    assert {wanted.spec_of_cells for wanted in hosts.told.values()} == {new}
    assert {place.endpoint[-4:] for place in hosts.told["10.0.0.1"].map.cells} == {"7000", "7002"}


def test_options_with_which_no_cell_runs_stop_at_the_first_host_and_can_be_mended() -> None:
    hosts, board = slowly_started()
    board.want(msgspec.structs.replace(SPEC, arguments=("bad",)))
    assert rolled(hosts, board, seconds=60) == 1
    assert len(board.view(hosts.now).behind) == 2
    board.want(SPEC)
    rolled(hosts, board, seconds=30)
    assert board.view(hosts.now).is_whole


def test_with_one_replica_new_options_are_taken_all_the_same() -> None:
    hosts, board = SlowHosts(), Board(0.0)
    alone = msgspec.structs.replace(SPEC, replicas=1)
    board.want(alone)
    rolled(hosts, board, seconds=20)
    board.want(msgspec.structs.replace(alone, arguments=()))
    rolled(hosts, board, seconds=20)
    assert board.view(hosts.now).is_whole
    assert board.view(hosts.now).behind == ()


def test_the_end_is_remembered_by_the_hosts() -> None:
    hosts, board = started()
    board.end()
    hosts.turns(board, 2.0, ROOMS)
    assert hosts.cells() == 0
    new = Board(100.0)
    hosts.turns(new, 101.0, ROOMS)
    assert hosts.cells() == 0
    assert new.view(101.0).spec is None
