"""How a collector's processes are scheduled: asked for in the file, got from the system, and shown."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from collector.control import scheduling
from shards.runtime.exit_codes import EXIT_CONFIG
from shards.runtime.realtime import SHARD
from tests.simulator.client import Simulator, simulator
from tests.system.running import COLLECTOR, Running, collector, eventually, free_port_pair

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="scheduled normally elsewhere")
_WITHOUT = (
    *("prlimit", "--rtprio=0:0"),
    *("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"),
)


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """A small exchange."""
    with simulator("--markets", "4", "--block-time", "0.2") as running:
        yield running


def _scheduled(running: Running, *names: str) -> dict[str, str]:
    """Wait until the coordinator has named its processes; return how each is scheduled."""

    def named() -> dict[str, str]:
        found = {row["name"]: row["scheduling"] for row in running.status()["processes"]}
        awaited = found.keys() >= {"coordinator", "shard 0", "aggregator", *names}
        return found if awaited and all(found.values()) else {}

    return eventually(
        named, within_s=30, what=lambda: f"all processes: {running.status()['processes']}"
    )


def _priorities(pid: int) -> dict[int, int]:
    """Return the real-time priorities of a process's threads by their ids."""
    threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    return {thread: os.sched_getparam(thread).sched_priority for thread in threads}


def _metrics(http: str) -> str:
    """Read the metrics; empty until they are served."""
    try:
        with urllib.request.urlopen(f"http://{http}/metrics", timeout=20) as answer:
            return str(answer.read(), "utf-8")
    except OSError:
        return ""


@pytest.mark.skipif(bool(scheduling.refusal()), reason="needs the right to run in real time")
def test_shards_and_aggregator_run_in_real_time_and_no_other(
    venue: Simulator, tmp_path: Path
) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    tables = f"[processes.cpus]\nshards = [{cpus[0]}]\nothers = [{cpus[-1]}]\n"
    http = f"127.0.0.1:{free_port_pair()}"
    options = ("--config", str(venue.config(tmp_path, extra=tables)), "--http", http)
    with collector(tmp_path, *options) as running:
        running.await_live()
        due = {
            "coordinator": "normal",
            "shard 0": "realtime",
            "aggregator": "realtime",
            "http": "normal",
        }
        # The supervisor looks once a second, perhaps before a process has taken its class.
        eventually(lambda: _scheduled(running, "http") == due, within_s=30, what="in real time")
        placed = {
            name: os.sched_getaffinity(running.pid(name))
            for name in ("coordinator", "shard 0", "aggregator", "http")
        }
        shard = running.pid("shard 0")
        priorities = _priorities(shard)
        of_http = 'collector_process_realtime{process="http"} 0.0'
        metrics = eventually(
            lambda: body if of_http in (body := _metrics(http)) else "", within_s=30, what=of_http
        )
        assert "shards and aggregator run in real time" in running.log
    # ZeroMQ's two threads, which carry what the loop pushes.
    assert priorities.pop(shard) == SHARD
    assert list(priorities.values()).count(SHARD + 1) == 2
    assert placed == {
        "coordinator": {cpus[-1]},
        "shard 0": {cpus[0]},
        "aggregator": set(cpus),
        "http": {cpus[-1]},
    }
    assert 'collector_process_realtime{process="shard 0"} 1.0' in metrics


def test_normal_is_normal(venue: Simulator, tmp_path: Path) -> None:
    config = venue.config(tmp_path, extra='[processes]\npriority = "normal"\n')
    with collector(tmp_path, "--config", str(config)) as running:
        running.await_live()
        assert set(_scheduled(running).values()) == {"normal"}
        assert "shards and aggregator run at normal priority\n" in running.log


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 3, reason="needs three processors")
def test_where_there_are_processors_shards_and_aggregator_spin(
    venue: Simulator, tmp_path: Path
) -> None:
    config = venue.config(tmp_path, extra="[processes]\nspin = true\n")
    with collector(tmp_path, "--config", str(config)) as running:
        running.await_live()
        assert set(_scheduled(running).values()) == {"normal"}
        assert "shards and aggregator spin at normal priority" in running.log
        processes = [psutil.Process(running.pid(name)) for name in ("shard 0", "aggregator")]
        began = [sum(process.cpu_times()[:2]) for process in processes]
        head = running.status()["blocks"]["head"]
        eventually(
            lambda: running.status()["blocks"]["head"] > head + 10, within_s=30, what="blocks"
        )
        used = [sum(process.cpu_times()[:2]) for process in processes]
    # Ten blocks of 0.2 s; a process that sleeps uses a twentieth of it.
    assert all(now - before > 0.5 for now, before in zip(used, began, strict=True))


def test_where_the_system_refuses_auto_is_normal_and_says_how_to_allow_it(
    venue: Simulator, tmp_path: Path
) -> None:
    config = str(venue.config(tmp_path))
    with collector(tmp_path, "--config", config, before=_WITHOUT) as running:
        running.await_live()
        assert set(_scheduled(running).values()) == {"normal"}
        assert "real time is refused (Operation not permitted); allow it with" in running.log


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            '[processes]\npriority = "realtime"\n',
            'processes.priority is "realtime", and the system refuses it: Operation not permitted',
        ),
        (
            "[processes]\ncpus = { aggregator = [4095] }\n",
            "processes.cpus.aggregator names 1 processor that the collector may not use: 4095",
        ),
        (
            f"[processes]\nspin = true\ncpus = {{ shards = [{min(os.sched_getaffinity(0))}] }}\n",
            "processes.spin: 1 shard would keep 1 processor busy, and one more is needed for all other "
            "threads; processes.cpus.shards names 1",
        ),
    ],
)
def test_what_cannot_be_had_ends_it_with_a_sentence_and_3(
    venue: Simulator, tmp_path: Path, table: str, sentence: str
) -> None:
    config = str(venue.config(tmp_path, extra=table))
    done = subprocess.run(
        [*_WITHOUT, *COLLECTOR, "start", "--config", config, "--publish", f"ipc://{tmp_path}/p"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, sentence in done.stderr) == (EXIT_CONFIG, True), done.stderr
