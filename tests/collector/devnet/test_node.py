"""A real node: it trades, listens on loopback only, and leaves nothing behind however it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil
import pytest

from collector.devnet.info import DevnetInfo
from tests.system.running import runs

pytestmark = pytest.mark.node


@pytest.fixture
def tmp_path():
    """A folder of a short name: the node's signer has a socket in it, whose path is limited."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield Path(folder)


def eventually(condition, within_s=90.0):
    """Wait until the condition gives something true, and give that."""
    deadline = time.monotonic() + within_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.05)
    return result


@contextmanager
def devnet(*options, folder):
    """Run the command with its temporary home in the folder; whatever happens, end it."""
    with subprocess.Popen(
        [sys.executable, "-m", "collector", "devnet", "--json", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(90)


def family(process):
    """Give the command's process and all below it."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def assert_nothing_left(processes, folder, within_s=30):
    eventually(lambda: not any(map(runs, processes)), within_s)
    eventually(lambda: not list(Path(folder).iterdir()), within_s=30)


def ready(process):
    return msgspec.json.decode(process.stdout.readline(), type=DevnetInfo)


def rpc(info, query):
    with urllib.request.urlopen(f"{info.endpoints.rpc}/{query}", timeout=30) as answer:
        return json.load(answer)["result"]


def height(info):
    try:
        return int(rpc(info, "status")["sync_info"]["latest_block_height"])
    except OSError:
        return 0


def block_time(info, block):
    text = rpc(info, f"header?height={block}")["header"]["time"]
    return datetime.fromisoformat(text[:26].rstrip("Z")).replace(tzinfo=UTC).timestamp()


def trades(info, block):
    """Count the trades of a block by market."""
    found: Counter[str] = Counter()
    for event in rpc(info, f"block_results?height={block}")["finalize_block_events"]:
        if event["type"].startswith("injective.exchange.v2.EventBatch") and event["type"].endswith(
            "Execution"
        ):
            values = {a["key"]: a["value"] for a in event["attributes"]}
            found[json.loads(values["market_id"])] += len(json.loads(values["trades"]))
    return found


def test_trades_on_loopback_and_survives_a_restart(tmp_path):
    """One node for all of it: what is asked of a running devnet, then Ctrl-C."""
    with devnet("--quiet-markets", "2", folder=tmp_path) as process:
        info = ready(process)
        processes = family(process)
        assert len(info.markets) == 16
        assert [m.quiet for m in info.markets] == [False] * 14 + [True] * 2
        assert {info.pids.devnet, info.pids.node, info.pids.trader} <= {p.pid for p in processes}

        listening = [
            c.laddr.ip
            for p in processes
            for c in p.net_connections("inet")
            if c.status == psutil.CONN_LISTEN
        ]
        assert len(listening) == 5  # rpc, p2p, grpc, chain stream, websocket
        assert set(listening) == {"127.0.0.1"}

        trading = {m.market_id for m in info.markets if not m.quiet}
        assert every_market_trades(info, since=1) == trading

        before = height(info)
        process.send_signal(signal.SIGUSR1)
        eventually(lambda: not psutil.pid_exists(info.pids.node))
        eventually(lambda: height(info) > before)  # the same port, and the chain goes on
        assert every_market_trades(info, since=height(info), markets=3) <= trading

        processes = family(process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out == ""  # one line of JSON, whatever happened since
        assert "in all" in err
    assert_nothing_left(processes, tmp_path)


def every_market_trades(info, *, since, markets=14):
    """Wait until that many markets have traded, block by block; give them."""
    found: Counter[str] = Counter()
    block = since
    deadline = time.monotonic() + 90
    while len(found) < markets:
        assert time.monotonic() < deadline, found
        if height(info) > block + 1:  # the last block's results may not be there yet
            block += 1
            found += trades(info, block)
        else:
            time.sleep(0.1)
    return set(found)


def test_a_killed_command_takes_everything_with_it(tmp_path):
    with devnet(folder=tmp_path) as process:
        ready(process)
        processes = family(process)
        assert len(processes) == 4
        process.kill()
        assert_nothing_left(processes, tmp_path)


def test_a_killed_keeper_takes_the_others_with_it(tmp_path):
    with devnet("--spot", "1", "--perp", "0", folder=tmp_path) as process:
        ready(process)
        processes = family(process)
        processes[1].kill()
        assert process.wait(90) == 3
        # At once: without a keeper a node ends too, some seconds later, for want of its signer.
        assert_nothing_left(processes[1:], tmp_path, within_s=1)


def test_a_killed_node_is_started_again(tmp_path):
    with devnet("--spot", "2", "--perp", "1", folder=tmp_path) as process:
        info = ready(process)
        before = eventually(lambda: height(info))
        os.kill(info.pids.node, signal.SIGKILL)
        eventually(lambda: height(info) > before + 2)


def test_sigterm_while_booting_leaves_nothing(tmp_path):
    with devnet(folder=tmp_path) as process:
        # The keeper, and the node below it, before it can be ready.
        processes = eventually(lambda: len(f := family(process)) > 2 and f)
        process.terminate()
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out == ""
    assert_nothing_left(processes, tmp_path)


def test_blocks_come_at_the_pace_asked_for(tmp_path):
    options = ("--spot", "1", "--perp", "0", "--traffic", "none", "--block-time", "0.9")
    with devnet(*options, folder=tmp_path) as process:
        info = ready(process)
        assert info.block_time_s == 0.9
        paces: list[float] = []

        def at_the_pace():
            """On a busy machine blocks may come late, but never early, and not all of them."""
            if height(info) >= 7 + len(paces):
                last = 7 + len(paces)
                paces.append((block_time(info, last) - block_time(info, last - 4)) / 4)
            return paces and paces[-1] < 1.1

        eventually(at_the_pace, within_s=90)
        assert min(paces) > 0.8


def test_the_end_of_stdin_stops_it_if_asked(tmp_path):
    with devnet("--stop-with-stdin", "--traffic", "none", folder=tmp_path) as process:
        assert ready(process).pids.trader is None
        processes = family(process)
        process.stdin.close()
        assert process.wait(90) == 0
    assert_nothing_left(processes, tmp_path)


def test_a_taken_port_ends_it_with_one_sentence(tmp_path):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        with devnet("--rpc-port", str(port), folder=tmp_path) as process:
            _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert err.strip().count("\n") == 0
    assert f"port {port} " in err
    assert not list(tmp_path.iterdir())


def test_a_kept_home_is_found_again_and_a_broken_one_explained(tmp_path):
    home, temporary = tmp_path / "chain", tmp_path / "tmp"
    temporary.mkdir()
    options = ("--spot", "2", "--perp", "1", "--home", str(home))
    with devnet(*options, folder=temporary) as process:
        info = ready(process)
        eventually(lambda: height(info) > 4)
    with devnet(*options, "--spot", "9", folder=temporary) as process:
        again = ready(process)
        assert again.markets == info.markets
        assert height(again) > 4
    (home / "config" / "genesis.json").write_text('{"chain_id": 1}')
    (home / "data").rename(home / "lost")
    with devnet(*options, folder=temporary) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "the node ended with code" in err
    assert len(err.splitlines()) > 1  # the node's own words


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("the only copy")
    with devnet("--home", str(tmp_path), folder=tempfile.gettempdir()) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "neither empty nor" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
