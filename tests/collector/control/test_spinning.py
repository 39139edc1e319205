"""Whether there are processors for processes that spin, and what changes if they do."""

import math
from pathlib import Path

import pytest

from collector.control import scheduling
from collector.control.scheduling import Scheduling, lacking
from collector.settings.parts import Cpus, ProcessSettings, Supervision
from shards.protocol.errors import ConfigError
from tests.collector.control.test_desired_state import desired, order


@pytest.mark.parametrize(
    ("shards", "processors", "cpus"),
    [
        (1, 3, Cpus()),
        (2, 4, Cpus()),
        (2, 8, Cpus(shards=(2, 3, 4))),
        (2, 8, Cpus(shards=(2, 3, 4), aggregator=(1, 2))),
    ],
)
def test_one_processor_more_than_processes_is_enough(
    shards: int, processors: int, cpus: Cpus
) -> None:
    assert not lacking(cpus, range(processors), shards)


@pytest.mark.parametrize(
    ("shards", "processors", "cpus", "sentence"),
    [
        (1, 2, Cpus(), "1 shard and the aggregator would keep 2 processors busy"),
        (4, 4, Cpus(), "4 shards would keep 4 processors busy"),
        (2, 8, Cpus(shards=(2, 3)), "processes.cpus.shards names 2"),
        (2, 8, Cpus(aggregator=(1,)), "processes.cpus.aggregator names 1"),
        (
            2,
            8,
            Cpus(shards=(1, 2, 3), aggregator=(1, 2)),
            "2 shards and the aggregator would keep 3",
        ),
    ],
)
def test_fewer_are_refused_by_number(
    shards: int, processors: int, cpus: Cpus, sentence: str
) -> None:
    assert sentence in lacking(cpus, range(processors), shards)


def test_what_a_container_may_use_counts_as_well(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/pod/ours\n")
    inner = tmp_path / "root/pod/ours"
    inner.mkdir(parents=True)

    def allowed() -> float:
        return scheduling.quota(tmp_path / "root", tmp_path / "cgroup")

    assert allowed() == math.inf
    (inner / "cpu.max").write_text("max 100000\n")
    assert allowed() == math.inf
    (inner.parent / "cpu.max").write_text("250000 100000\n")
    assert allowed() == 2.5
    assert "(cpu.max) allows 2.5" in lacking(Cpus(), range(64), 1, allowed())
    (inner.parent / "cpu.max").write_text("300000 100000\n")
    assert not lacking(Cpus(), range(64), 1, allowed())


def test_processes_that_spin_are_scheduled_normally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "available", lambda: frozenset(range(8)))
    monkeypatch.setattr(scheduling, "quota", lambda: math.inf)
    ours = Scheduling(ProcessSettings(spin=True), 2)
    assert (ours.spins, ours.is_realtime, ours.shard, ours.aggregator) == (True, False, 0, 0)
    # Their CPU is all of a processor, whatever they have to do.
    assert ours.limits(Supervision()).cpu_budget_percent == math.inf
    with pytest.raises(ConfigError, match="leave out one of the two"):
        Scheduling(ProcessSettings(priority="realtime", spin=True), 2)


def test_more_shards_than_may_spin_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "available", lambda: frozenset(range(4)))
    monkeypatch.setattr(scheduling, "quota", lambda: math.inf)
    ours = Scheduling(ProcessSettings(spin=True), 2)
    mine, more = desired(check_shards=ours.check_shards), order("scale", number=3)
    mine.order([more], {}, 0.0)
    answer = mine.commands.answers[more.token]
    assert answer["state"] == "refused"
    assert "3 shards and the aggregator would keep 4 processors busy" in answer["text"]
    assert mine.assignment.shards == {0, 1}
