"""The keeper of a host, without Ray: cells run as wanted, outlive it, and tell readers where all are."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from collector.client.cluster_map import CellPlace, ClusterMap, endpoints
from collector.client.subscriber import Subscriber
from collector.cluster import keeper
from collector.cluster.folder import HostFolder
from collector.cluster.processes import Kept, Record, boot, save, started_at
from collector.cluster.ray_node import RayNode
from collector.cluster.spec import CellReport, Placed, Spec, Wanted, endpoint
from collector.markets.parts import Part
from shards.protocol.events import Trades
from shards.protocol.settings import Market
from tests.needs import NAMESPACES
from tests.simulator.client import Simulator, simulator
from tests.system.running import COLLECTOR, eventually, free_port_pair, run

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def exchange() -> Iterator[Simulator]:
    with simulator("--markets", "8", "--block-time", "0.3", "--touched", "all") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[HostFolder]:
    folder = HostFolder(tmp_path / "here")
    folder.path.mkdir()
    yield folder
    keeper.ensure(folder)
    keeper.end(folder)


def wanted(generation: int, exchange: Simulator, folder: HostFolder, parts: int) -> Wanted:
    """Want all parts on this host."""
    spec = Spec(
        parts=parts,
        replicas=1,
        port=free_port_pair(parts),
        arguments=("--config", str(exchange.config(folder.path))),
    )
    cells = tuple(Placed(part, slot) for slot, part in enumerate(spec.names()))
    places = tuple(CellPlace(one.part, HOST, endpoint(HOST, spec, one.slot)) for one in cells)
    return Wanted(
        generation=generation,
        host=HOST,
        spec=spec,
        cells=cells,
        map=ClusterMap(generation, places),
    )


def ready(folder: HostFolder, generation: int) -> list[CellReport]:
    """Wait until all cells of a generation are complete."""

    def found() -> list[CellReport]:
        report = folder.read_report()
        done = report.generation == generation and all(cell.is_ready for cell in report.cells)
        return list(report.cells) if done else []

    return eventually(found, within_s=60, what=lambda: f"complete cells: {folder.read_report()}")


def pid_of(folder: HostFolder) -> int:
    return eventually(
        lambda: int(folder.lock.read_text() or 0), within_s=30, what="the keeper's process id"
    )


def test_cells_outlive_the_keeper_and_the_next_one_finds_them(
    exchange: Simulator, folder: HostFolder
) -> None:
    first = wanted(1, exchange, folder, parts=1)
    save(folder.wanted, first)
    keeper.ensure(folder)
    (cell,) = ready(folder, 1)
    os.kill(pid_of(folder), signal.SIGKILL)
    folder.report.unlink()
    eventually(lambda: _is_free(folder), within_s=30, what="the end of the keeper")
    assert psutil.pid_exists(cell.pid)
    keeper.ensure(folder)
    (again,) = ready(folder, 1)
    assert again.pid == cell.pid
    # A cell that is killed is started again, and one that is not wanted ends.
    os.kill(cell.pid, signal.SIGKILL)
    eventually(
        lambda: folder.read_report().cells[0].pid not in (0, cell.pid),
        within_s=30,
        what="another process of the cell",
    )
    (third,) = ready(folder, 1)
    none = Wanted(generation=2, host=HOST, spec=first.spec)
    save(folder.wanted, none)
    eventually(lambda: _is_free(folder), within_s=30, what="the end of a keeper without cells")
    eventually(lambda: not psutil.pid_exists(third.pid), within_s=30, what="the end of the cell")


def _is_free(folder: HostFolder) -> bool:
    with keeper.locked(folder) as is_free:
        return is_free


def test_a_reader_finds_all_cells_from_one_also_those_that_come_later(
    exchange: Simulator, folder: HostFolder
) -> None:
    both = wanted(2, exchange, folder, parts=2)
    # At first the cells say that there is only the first one.
    alone = ClusterMap(1, both.map.cells[:1])
    save(
        folder.wanted, Wanted(generation=1, host=HOST, spec=both.spec, cells=both.cells, map=alone)
    )
    keeper.ensure(folder)
    ready(folder, 1)
    seed = both.map.cells[0].endpoint
    assert endpoints([seed]) == [seed]
    heard: set[str] = set()
    with Subscriber(cluster=seed, channels="trades") as subscriber:
        while not heard:
            _hear(subscriber, heard)
        save(folder.wanted, both)
        eventually(lambda: len(endpoints([seed])) == 2, within_s=30, what="the newer map")
        until = time.monotonic() + 60
        while heard != {one.endpoint for one in both.map.cells} and time.monotonic() < until:
            _hear(subscriber, heard)
    assert heard == {one.endpoint for one in both.map.cells}
    shown = run("status", "--cluster", seed).stdout
    assert "part 1/2" in shown
    assert "part 2/2" in shown
    said = run("tail", "--cluster", seed, "-n", "1", "--channel", "trades")
    assert said.returncode == 0, said.stderr
    both_given = run("tail", "--cluster", seed, "--connect", seed)
    assert both_given.returncode == 2
    assert "give one of them" in both_given.stderr


def test_a_relay_finds_all_cells_from_one(exchange: Simulator, folder: HostFolder) -> None:
    both = wanted(1, exchange, folder, parts=2)
    save(folder.wanted, both)
    keeper.ensure(folder)
    ready(folder, 1)
    seed = both.map.cells[1].endpoint
    publish = f"tcp://{HOST}:{free_port_pair()}"
    with (
        subprocess.Popen([*COLLECTOR, "relay", "--cluster", seed, "--publish", publish]) as relay,
        Subscriber(publish, channels="trades") as subscriber,
    ):
        try:
            heard: set[bool] = set()
            until = time.monotonic() + 40
            while heard != {True, False} and time.monotonic() < until:
                received = subscriber.poll(0.5)
                if received is not None and isinstance(received.event, Trades):
                    market = Market(received.event.market_id, "", "", "spot")
                    heard.add(Part(1, 2).has(market))
            assert heard == {True, False}, "trades of both parts"
            said = run("status", "--connect", publish)
            assert said.returncode == 0, said.stderr
        finally:
            relay.terminate()
            relay.wait(90)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--connect or --cluster: one of them is required"),
        (("--connect", "tcp://a:1", "--cluster", "tcp://a:1"), "give one of them"),
    ],
)
def test_a_relay_needs_cells_or_a_cluster(options: tuple[str, ...], said: str) -> None:
    asked = run("relay", *options, "--publish", "tcp://127.0.0.1:5570")
    assert asked.returncode == 2
    assert said in asked.stderr


def _hear(subscriber: Subscriber, heard: set[str]) -> None:
    received = subscriber.poll(0.5)
    if received is not None and isinstance(received.event, Trades):
        heard.add(received.publisher)


def test_a_cell_that_cannot_run_says_why(exchange: Simulator, folder: HostFolder) -> None:
    broken = wanted(1, exchange, folder, parts=1)
    (folder.path / "collector.toml").write_text("nonsense = 1\n")
    save(folder.wanted, broken)
    keeper.ensure(folder)
    said = eventually(
        lambda: next((c.problem for c in folder.read_report().cells if c.problem), ""),
        within_s=30,
        what="a problem",
    )
    assert "nonsense" in said


def test_outside_a_cluster_a_cell_says_so(exchange: Simulator, folder: HostFolder) -> None:
    plain = wanted(1, exchange, folder, parts=1)
    save(folder.wanted, Wanted(generation=1, host=HOST, spec=plain.spec, cells=plain.cells))
    keeper.ensure(folder)
    (cell,) = ready(folder, 1)
    with pytest.raises(ValueError, match="belongs to no cluster"):
        endpoints([cell.endpoint])


def test_the_state_of_a_cell_that_moved_away_is_removed_but_none_at_the_end(
    exchange: Simulator, folder: HostFolder
) -> None:
    both = wanted(1, exchange, folder, parts=2)
    save(folder.wanted, both)
    keeper.ensure(folder)
    ready(folder, 1)
    one = msgspec.structs.replace(both, generation=2, cells=both.cells[:1])
    save(folder.wanted, one)
    eventually(
        lambda: not folder.state("2/2").exists(), within_s=30, what="the end of the second state"
    )
    save(folder.wanted, msgspec.structs.replace(one, generation=3, cells=(), is_ended=True))
    eventually(lambda: _is_free(folder), within_s=30, what="the end of the keeper")
    assert folder.state("1/2").is_dir()


def test_after_a_reboot_cells_do_not_wait_for_a_head_that_is_away(
    exchange: Simulator, folder: HostFolder
) -> None:
    pytest.importorskip("ray", reason="needs the extra cluster")
    first = wanted(1, exchange, folder, parts=1)
    save(folder.wanted, first)
    folder.token.touch(0o600)
    away = "127.0.0.1:1"
    node = RayNode(address=away, host=HOST, room=4, token=str(folder.token), is_ours=False)
    save(folder.ray, node)
    up = ("cluster", "up", "--attach", "--address", away, "--room", "4", "--within", "1")
    said = run(*up, "--folder", str(folder.path))
    assert said.returncode == 3
    assert "no head of Ray answers there" in said.stderr
    ready(folder, 1)


def test_the_session_of_a_process_is_known_only_while_it_is_certain(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    assert kept.session() == 0
    # It leaves a child behind, in its session.
    kept.start(["sh", "-c", "sleep 60 & exit"], "it", os.environ)
    assert kept.record is not None
    leader = kept.record.pid
    eventually(lambda: not kept.is_running(), within_s=30, what="the end of the process")
    # The ended process may still be a zombie.
    others = (one for one in psutil.process_iter() if one.pid != leader)
    left = [one for one in others if _session(one) == kept.session()]
    assert len(left) == 1
    # The shell's child is the shell until it has become the program.
    eventually(lambda: left[0].name() == "sleep", within_s=30)
    assert kept.session() == leader
    left[0].kill()
    # The id is another process's now, or of before the last boot.
    kept.record = Record(os.getpid(), boot(), "1", ())
    assert kept.session() == 0
    kept.record = Record(leader, "another boot", started_at(os.getpid()), ())
    assert kept.session() == 0


def test_a_process_is_known_by_its_arguments(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    assert not kept.was_started_with(["sleep", "60"])
    kept.start(["sleep", "60"], "it", os.environ)
    try:
        # Python has several names in one environment.
        assert kept.was_started_with(["/usr/bin/sleep", "60"])
        assert not kept.was_started_with(["sleep", "61"])
    finally:
        kept.stop(0)


_CLOCK_WAS_SET = """
mount --bind "$1" /proc/stat
exec "$2" -c "
import sys, psutil
from pathlib import Path
from collector.cluster.processes import Kept
print(psutil.boot_time(), Kept(Path(sys.argv[1])).is_running())
" "$3"
"""


@NAMESPACES.required()
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it replaces /proc/stat for one process")
def test_a_process_is_found_again_after_the_clock_was_set(tmp_path: Path) -> None:
    """When the clock is set, Linux moves the time of its boot, and with it all times of creation."""
    kept = Kept(tmp_path / "it")
    kept.start(["sleep", "60"], "it", os.environ)
    assert kept.record is not None
    try:
        stat, hour = Path("/proc/stat").read_text(), 3_600
        booted = int(psutil.boot_time())
        moved = tmp_path / "stat"
        moved.write_text(stat.replace(f"btime {booted}", f"btime {booted + hour}"))
        said = subprocess.run(
            [
                *("unshare", "--mount", "sh", "-ec", _CLOCK_WAS_SET, "sh"),
                *(str(moved), sys.executable, str(tmp_path / "it")),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert said.split() == [f"{booted + hour}.0", "True"]
    finally:
        os.kill(kept.record.pid, signal.SIGKILL)


def test_a_keeper_that_is_ended_as_soon_as_it_is_there_ends_what_runs(
    exchange: Simulator, folder: HostFolder
) -> None:
    save(folder.wanted, wanted(1, exchange, folder, parts=1))
    keeper.ensure(folder)
    ready(folder, 1)
    os.kill(pid_of(folder), signal.SIGKILL)
    eventually(lambda: _is_free(folder), within_s=30, what="the end of the keeper")
    assert Kept(folder.cell(0)).is_running()
    keeper.ensure(folder)
    assert not _is_free(folder)
    keeper.end(folder)
    assert not Kept(folder.cell(0)).is_running()


def test_a_full_disk_ends_no_keeper(
    exchange: Simulator, folder: HostFolder, tmp_path: Path
) -> None:
    first = wanted(1, exchange, folder, parts=1)
    save(folder.wanted, first)
    # Its report has no place: a folder is there.
    folder.report.mkdir()
    keeper.ensure(folder)
    log = folder.path / "keeper.log"
    eventually(lambda: "is repeated" in log.read_text(), within_s=30, what="a failed turn")
    assert not _is_free(folder)
    folder.report.rmdir()
    ready(folder, 1)


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return -1
