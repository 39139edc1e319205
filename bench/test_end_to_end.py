"""The benches that start processes, with tiny numbers: that they run, not how fast."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import (
    budgets,
    compare,
    grouping,
    growth,
    page,
    peers,
    plots,
    results,
    rig,
    rows_devnet,
    rows_load,
    scale,
    sides,
    syscalls,
)
from bench.budget import Line, Scale
from bench.budgets import Outcome
from bench.overload import Overload
from bench.rig import Bench, Feeder
from collector.control import scheduling
from tests.needs import STRACE

BESIDE_THE_SDK = ("1", "2")
IN_REAL_TIME = ("13",)
TINY = Scale(runs=1, seconds=0.3, tiny=True)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave real results alone, and do not wait for a load to settle."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(plots, "FOLDER", tmp_path)
    monkeypatch.setattr(sides, "SETTLE_S", 0.1)


@pytest.fixture(scope="module")
def started() -> Iterator[Bench]:
    """A feeder and a collector for all: starting one for each bench is what takes the time."""
    with Feeder(markets=8) as feeder, rig.live(feeder, shards=2, times="each") as b:
        yield b


@pytest.fixture
def one_collector(started: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every bench find the collector that runs already."""
    side = sides.Side(started.feeder, started.pids, started.listener.mark)

    @contextlib.contextmanager
    def same(thing: Any) -> Iterator[Any]:
        yield thing

    for module in (rows_load, peers, scale):
        monkeypatch.setattr(module, "Feeder", lambda **_: same(started.feeder))
    monkeypatch.setattr(sides, "ours", lambda *_, **__: same(side))
    monkeypatch.setattr(rig, "live", lambda *_, **__: same(started))
    monkeypatch.setattr(growth, "bench", lambda **_: same(started))


@pytest.mark.usefixtures("one_collector")
@pytest.mark.parametrize("row", ["1", "2", "4", "5b", "8", "9", "13"])
def test_budget_under_load(row: str) -> None:
    """Every row that needs a load gives figures."""
    if row in BESIDE_THE_SDK and not sides.has_sdk():
        pytest.skip("the row is beside injective-py, which installs on Python 3.11 and 3.12")
    if row in IN_REAL_TIME and scheduling.refusal():
        pytest.skip("the system refuses real time")
    _look_at(budgets.reach([row], TINY))


@pytest.mark.parametrize("row", ["3", "7", "11"])
def test_budget_of_the_core(row: str) -> None:
    """So do those that need none."""
    _look_at(budgets.reach([row], TINY))


def _look_at(found: Outcome) -> None:
    assert found.lines
    assert not found.failed
    assert found.conditions.keys() == {line.number for line in found.lines}
    for line in found.lines:
        assert all(value >= 0 for value in line.values), line
        assert line.values
        assert line.row()


@pytest.mark.node
def test_budgets_on_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that need a real node."""
    with rows_devnet.node(TINY) as found:
        monkeypatch.setattr(rows_devnet, "node", lambda _: contextlib.nullcontext(found))
        _look_at(budgets.reach(["5a", "6", "10"], TINY))
        readings = growth.watch_node(0.02, shards=1, every_s=1.0, scale=TINY)
        assert growth.keep(readings)["largest_shard_pss_mb"] > 0


@pytest.mark.usefixtures("one_collector")
def test_peers() -> None:
    """Every peer that is installed hears updates."""
    found = peers.compare(1, 0.3, scale=0.02)
    assert len(found) > 4
    for peer in found:
        assert peer.flood[0] > 0, peer.name
        assert len(peer.row()) == len(peers.head())


@pytest.mark.usefixtures("one_collector")
def test_growth() -> None:
    """Readings are taken, and growth is the difference of medians."""
    readings = growth.watch(0.03, 400, markets=8, shards=1, every_s=0.9)
    assert readings[0].updates_per_s > 0
    assert growth.keep(readings)["largest_shard_pss_mb"] > 0
    assert growth.growth(readings, settled=0)


@pytest.mark.usefixtures("one_collector")
def test_scale() -> None:
    """A size of the table."""
    found = scale.size(8, seconds=0.7)
    assert found.coverage == 1.0
    assert found.cpu_us >= 0
    assert len(found.row()) == len(scale.HEAD)
    assert scale.said([found])


def test_as_many_markets_are_recommended_as_stay_in_time() -> None:
    """Between two sizes along a line; none where even the first is late."""

    def sized(markets: int, p99_ms: float, coverage: float = 1.0) -> scale.Scaled:
        return scale.Scaled(markets, 1.0, coverage, 10.0, 0.1, 1.0, p99_ms, 40.0, 40.0)

    assert scale.recommended([sized(100, 4.0), sized(300, 8.0), sized(1_000, 22.0)]) == 400
    assert scale.recommended([sized(100, 4.0), sized(300, 8.0)]) == 300
    assert scale.recommended([sized(100, 4.0), sized(300, 8.0, coverage=0.9)]) == 100
    assert scale.recommended([sized(100, 40.0)]) == 0


def test_grouping() -> None:
    """Every size of a group gives figures; the larger, the fewer bytes."""
    found = grouping.measure(blocks=2, rounds=1)
    assert [row[0] for row in found] == list(grouping.SIZES)
    assert found[0][3] > found[-1][3]


@pytest.mark.usefixtures("one_collector")
@STRACE.required()
def test_syscalls(monkeypatch: pytest.MonkeyPatch, started: Bench) -> None:
    """Reads are counted, in every process."""
    monkeypatch.setattr(syscalls, "Feeder", lambda **_: contextlib.nullcontext(started.feeder))
    try:
        found = syscalls.measure(40)
    except PermissionError as error:
        pytest.skip(str(error))
    assert all(found.values())


def test_page() -> None:
    """A turn of each side."""
    found = page.measure(markets=8, shards=1, seconds=0.5, turns=1, tabs=2)
    assert found.alone[0].updates > 0
    assert found.bytes_per_s[0] > 0
    assert [row[0] for row in found.rows()][:2] == ["latency p50, ms", "latency p99, ms"]


def test_verdicts() -> None:
    """A limit is an upper one, or a lower one."""
    assert Line("1", "", [1.0, 2.0, 9.0], 2.0).met
    assert not Line("1", "", [1.0, 2.0, 9.0], 2.5, at_least=True).met


def test_an_overload_of_minutes_shows_growth_and_a_moment_does_not() -> None:
    """Buffers fill in the first seconds, whatever is measured."""

    def pressed(readings: list[float]) -> Overload:
        return Overload(1.0, 2.0, pss_mb={"shard 0": readings}, healed_s=0.0)

    assert not pressed([34.0, 48.0]).failures()
    assert not pressed([34.0] + [48.0] * 59).failures()
    assert pressed([34.0] * 30 + [48.0] * 30).failures() == ["memory of shard 0 grew by 14.0 MB"]


def test_a_stress_run_in_full_takes_its_time_and_need_not_have_anything_to_compare_with(
    tmp_path: Path,
) -> None:
    command = (sys.executable, "-m", "pytest", "bench/stress", "-p", "no:cacheprovider", "-q")
    chosen = ("-k", "test_burst[10-markets-1-shards]", "--benchmark-only", "--benchmark-compare")
    # The usual limit for a stuck test is shorter than an overload with its recovery.
    bound = ("-o", "faulthandler_timeout=1", f"--benchmark-storage=file://{tmp_path}")
    # As if this run were alone: benchmarks are off in the workers of another one.
    env = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    done = subprocess.run(
        (*command, *chosen, *bound), env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "Can't compare" in done.stderr


def test_blocks_are_timed_from_their_first_byte() -> None:
    """Both kinds of reports give the time of a block's last frame."""
    common = {"updates": 1, "seconds": 1.0, "cpu": {}, "latency_us": [], "marks": {7: 1_000_000}}
    ours = {"blocks": [(7, 1_100_000, 3_000_000, 2)], "seen": []}
    floor = {"seen": [(7, 1, 2_000_000), (7, 1, 4_000_000), (8, 1, 1)]}
    stretch = sides.Stretch
    assert rows_load.block_times_ms(stretch(report=ours, **common)) == [2.0]  # type: ignore[arg-type]
    assert rows_load.block_times_ms(stretch(report=floor, **common)) == [3.0]  # type: ignore[arg-type]


def test_the_feeder_says_what_it_sent() -> None:
    """Blocks carry marks, at the pace asked for."""
    with Feeder(markets=5) as feeder:
        feeder.do("marks")
        feeder.steady(500)
        marks: list[tuple[int, int, int]] = []
        while len(marks) < 5:
            marks += feeder.do("marks")["marks"]
        assert all(height and at for height, at, _ in marks)


def test_runs_are_compared_by_their_yardsticks(tmp_path: Path) -> None:
    """A machine half as fast makes no code slower."""

    def run(name: str, yardstick: float, median: float) -> Path:
        medians = {"test_yardstick": yardstick, "test_updates": median}
        benches = [{"name": n, "stats": {"median": s}} for n, s in medians.items()]
        path = tmp_path / name
        path.write_text(json.dumps({"benchmarks": benches}))
        return path

    before, after = compare.ratios(run("a", 1.0, 3.0)), compare.ratios(run("b", 2.0, 6.0))
    assert before == after
