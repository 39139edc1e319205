"""The machine below: full disks, removed folders, few descriptors, closed streams, stopped processes."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from collector import Subscriber
from tests.simulator.client import Simulator, simulator
from tests.system.http import get
from tests.system.running import (
    COLLECTOR,
    Running,
    alive,
    collector,
    eventually,
    free_port_pair,
    run,
)

_WITHIN_S = 60.0
STALL_S = 4.0
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system: needs root")


@pytest.fixture(scope="module")
def venue() -> Iterator[Simulator]:
    """A busy exchange."""
    with simulator("--markets", "4", "--block-time", "0.2", "--touched", "all") as running:
        yield running


@pytest.fixture
def config(venue: Simulator, tmp_path: Path) -> str:
    """A configuration file that points there."""
    return str(venue.config(tmp_path))


@contextlib.contextmanager
def _small_disk(at: Path, size: str = "256k") -> Iterator[Path]:
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", at], check=True)


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def _is_live_again(running: Running, name: str, former: int) -> bool:
    return running.pid(name) not in (0, former) and running.live()


def _kill(running: Running, name: str) -> None:
    former = running.pid(name)
    os.kill(former, signal.SIGKILL)
    eventually(
        lambda: _is_live_again(running, name, former),
        within_s=_WITHIN_S,
        what=lambda: f"{name} lives again:\n{running.log}",
    )


# ---- B12: a full disk ---------------------------------------------------------------------


@needs_root
def test_a_full_disk_is_a_warning_and_not_ready_until_there_is_room_again(
    config: str, tmp_path: Path
) -> None:
    http = free_port_pair()
    with _small_disk(tmp_path / "disk") as disk:
        options = ("--config", config, "--state", str(disk / "state"), "--http", str(http))
        with collector(tmp_path, *options) as running:
            running.await_live()
            filler = _fill(disk)
            eventually(lambda: running.status()["state"]["error"], within_s=30)
            aggregator = running.pid("aggregator")
            # Frames are live before the HTTP server, which nothing waits for, has begun.
            eventually(lambda: get(http, "/readyz")[0] == 503, within_s=30)
            assert "No space left on device" in get(http, "/readyz")[1]
            assert running.log.count("cannot save the ledger in") == 1
            unsaved = "collector_ledger_saved 0.0"
            eventually(lambda: unsaved in get(http, "/metrics")[1], within_s=30, what=unsaved)
            # A shard that dies meanwhile is resumed from the aggregator's ledger.
            _kill(running, "shard 0")
            assert running.pid("aggregator") == aggregator
            filler.unlink()
            eventually(lambda: get(http, "/readyz")[0] == 200, within_s=30)
            eventually(lambda: "the ledger is saved again" in running.log, within_s=30)


@needs_root
def test_a_full_folder_for_temporary_files_ends_nothing(config: str, tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk") as disk:
        environment = {"TMPDIR": str(disk)}
        options = ("--config", config, "--shards", "2", "--state", "none")
        with collector(tmp_path, *options, env=environment) as running:
            running.await_live()
            _fill(disk)
            for name in ("aggregator", "shard 1"):
                _kill(running, name)
            assert running.stop() == 0


# ---- B13, B14: sockets that somebody removes or takes -------------------------------------


def test_a_runtime_folder_that_is_removed_is_made_again(config: str, tmp_path: Path) -> None:
    with collector(tmp_path, "--config", config, "--shards", "2") as running:
        running.await_live()
        (folder,) = running.temporary.glob("collector-*")
        shutil.rmtree(folder)
        eventually((folder / "link").exists, within_s=30)
        for name in ("shard 0", "aggregator", "shard 1"):
            _kill(running, name)
        shutil.rmtree(folder)
        # It was not noticed yet: the next aggregator creates it itself.
        _kill(running, "aggregator")
        assert running.stop() == 0


def test_a_second_start_on_an_ipc_endpoint_is_refused_and_takes_nothing(
    config: str, tmp_path: Path
) -> None:
    publish = f"ipc://{tmp_path}/frames"
    with collector(tmp_path, "--config", config, publish=publish) as running:
        running.await_live()
        done = run("start", "--config", config, "--publish", publish, "--state", "none")
        assert done.returncode == 3
        assert f"endpoint {publish} is in use" in done.stderr
        with Subscriber(publish) as subscriber:
            assert subscriber.status()["coverage"]["now"] == 1.0
            assert subscriber.poll(10.0) is not None


def test_an_ipc_endpoint_does_not_replace_a_file(config: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("do not touch")
    done = run("start", "--config", config, "--publish", f"ipc://{precious}", "--state", "none")
    assert done.returncode == 3
    assert f"{precious} is not a socket" in done.stderr
    assert precious.read_text() == "do not touch"


def test_a_socket_that_a_killed_collector_left_is_taken(config: str, tmp_path: Path) -> None:
    left = tmp_path / "frames"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(left))
        listener.listen()
    with collector(tmp_path, "--config", config, publish=f"ipc://{left}") as running:
        running.await_live()


# ---- B15: descriptors ---------------------------------------------------------------------


def test_a_soft_limit_is_raised(config: str, tmp_path: Path) -> None:
    limited = ("prlimit", "--nofile=64:4096")
    with collector(tmp_path, "--config", config, before=limited) as running:
        running.await_live()
        pid = eventually(lambda: running.pid("aggregator"), within_s=30)
        found = psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE)
        assert found == (4096, 4096)


def test_more_subscribers_than_descriptors_end_nothing(
    venue: Simulator, config: str, tmp_path: Path
) -> None:
    limited = ("prlimit", "--nofile=128:128")
    with collector(tmp_path, "--config", config, before=limited) as running:
        running.await_live()
        aggregator = running.pid("aggregator")
        address = ("127.0.0.1", int(running.publish.rpartition(":")[2]))
        with contextlib.ExitStack() as stack:
            for _ in range(300):
                connection = stack.enter_context(socket.socket())
                connection.settimeout(0.5)
                with contextlib.suppress(OSError):
                    connection.connect(address)
            eventually(
                lambda: "no more subscribers may connect" in running.log,
                within_s=30,
                what=lambda: running.log,
            )
            # It goes on forwarding meanwhile.
            venue.await_height(venue.head() + 10)
            assert psutil.Process(aggregator).is_running(), running.log
        eventually(lambda: "there is room for subscribers again" in running.log, within_s=30)
        eventually(running.live, within_s=30)
        assert running.pid("aggregator") == aggregator
        with Subscriber(running.publish) as subscriber:
            assert subscriber.poll(60.0) is not None


def test_a_limit_that_is_too_low_is_said(config: str) -> None:
    done = subprocess.run(
        ["prlimit", "--nofile=24:24", *COLLECTOR, "start", "--config", config, "--state", "none"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert "the limit of open files is 24" in done.stderr
    assert "Traceback" not in done.stderr


# ---- B16 to B18: places that are not there, processes that are stopped ---------------------


def test_a_working_directory_that_is_deleted_ends_nothing(config: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with collector(tmp_path, "--config", config, "--shards", "2", cwd=gone) as running:
        running.await_live()
        gone.rmdir()
        _kill(running, "shard 0")
        assert running.stop() == 0


def test_when_all_were_stopped_nobody_is_shot(venue: Simulator, tmp_path: Path) -> None:
    config = venue.config(tmp_path, extra=f"[supervision]\nstall_after_s = {STALL_S}\n")
    with collector(tmp_path, "--config", str(config), "--shards", "2") as running:
        live = running.await_live()
        family = [running.process.pid]
        family += [p.pid for p in psutil.Process(family[0]).children(recursive=True)]
        before = {p["name"]: p["pid"] for p in live["processes"]}
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in family:
                os.kill(pid, number)
            if number == signal.SIGSTOP:
                # Long enough that each process alone would count as stuck.
                time.sleep(STALL_S + 1.5)
        status = running.await_live()
        assert {p["name"]: p["pid"] for p in status["processes"]} == before
        assert "its event loop is stuck" not in running.log


@needs_root
@pytest.mark.parametrize("how", ["read-only", "absent"])
def test_shared_memory_that_cannot_be_written_is_done_without(
    config: str, tmp_path: Path, how: str
) -> None:
    before = "mount -t tmpfs none /dev/shm && mount -o remount,ro /dev/shm"
    if how == "absent":
        before = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9"
    wrapper = ("unshare", "-m", "sh", "-c", f'{before} && exec "$@"', "sh")
    done = subprocess.run(
        [*wrapper, *COLLECTOR, "start", "--config", config, "--state", "none", "--duration", "3",
         "--publish", f"tcp://127.0.0.1:{free_port_pair()}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr


def test_nowhere_to_write_is_one_sentence(config: str, tmp_path: Path) -> None:
    code = (
        "import tempfile, sys\n"
        "tempfile._candidate_tempdir_list = lambda: ['/proc/nowhere']\n"
        "from collector.cli.main import main\n"
        f"sys.argv = ['collector', 'start', '--config', {config!r}, '--state', 'none']\n"
        "main()\n"
    )
    done = subprocess.run(
        [COLLECTOR[0], "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert "name one that can be written to with TMPDIR" in done.stderr
    assert "Traceback" not in done.stderr


# ---- B19, D36: streams and signals --------------------------------------------------------


def test_a_closed_stderr_ends_nothing(config: str, tmp_path: Path) -> None:
    with collector(
        tmp_path, "--config", config, before=("sh", "-c", 'exec "$@" 2>&-', "sh")
    ) as running:
        running.await_live()
        _kill(running, "shard 0")
        assert running.stop() == 0
        assert running.log == ""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_characters_that_the_output_lacks_are_replaced(
    config: str, tmp_path: Path, encoding: str
) -> None:
    environment = {"PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0"}
    with collector(tmp_path, "--config", config, env=environment) as running:
        running.await_live()
        done = subprocess.run(
            [*COLLECTOR, "status", "--connect", running.publish],
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, **environment},
        )
        assert done.returncode == 0, done.stderr
        assert b"receive to aggregator p50" in done.stdout
        assert running.stop() == 0
        assert "UnicodeEncodeError" not in running.log


def _family(running: Running) -> list[psutil.Process]:
    return psutil.Process(running.process.pid).children(recursive=True)


def test_a_hangup_drains_and_cleans_up(config: str, tmp_path: Path) -> None:
    with collector(tmp_path, "--config", config, "--shards", "2") as running:
        running.await_live()
        family = _family(running)
        # As a terminal does it: to the whole group.
        os.killpg(running.process.pid, signal.SIGHUP)
        assert running.process.wait(90) == 0
        eventually(lambda: not alive(family), within_s=30)
        assert running.leftovers() == []
        assert "Traceback" not in running.log


def test_a_second_signal_forces_and_cleans_up(config: str, tmp_path: Path) -> None:
    with collector(tmp_path, "--config", config, "--shards", "2") as running:
        running.await_live()
        family = _family(running)
        # The last word is waited for two seconds, so that the second signal comes before it.
        os.kill(running.pid("aggregator"), signal.SIGSTOP)
        os.killpg(running.process.pid, signal.SIGINT)

        def forced() -> bool:
            # Two signals that come before it looks are one.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGINT)
            return "forced to stop" in running.log

        eventually(forced, within_s=30, every_s=0.2, what="forced to stop")
        assert running.process.wait(90) == 1
        eventually(lambda: not alive(family), within_s=30)
        assert running.leftovers() == []
        assert "forced to stop" in running.log
        assert "Traceback" not in running.log


# ---- C27, D28: an aggregator that does not answer -----------------------------------------


def test_an_old_summary_is_said_to_be_old_and_reaches_no_coverage(
    config: str, tmp_path: Path
) -> None:
    summary = tmp_path / "summary.json"
    options = ("--config", config, "--min-coverage", "0.99", "--summary", str(summary))
    # It is found stuck only after the run.
    with (tmp_path / "collector.toml").open("a") as file:
        file.write("[supervision]\nstall_after_s = 60\n")
    with collector(tmp_path, *options) as running:
        # The coordinator knows it too.
        eventually(lambda: "4 of 4 markets live after" in running.log, within_s=_WITHIN_S)
        os.kill(running.pid("aggregator"), signal.SIGSTOP)
        eventually(
            lambda: re.search(r"the aggregator is away, this is from \d+ s ago", running.log),
            within_s=30,
        )
        assert running.stop() == 4
        assert "coverage is unknown: the aggregator has not answered for" in running.log
    found = json.loads(summary.read_text())
    assert found["coverage"]["now"] == 1.0
    assert found["stale_s"] > 2.0
