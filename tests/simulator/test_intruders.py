"""Without a listed key: nothing gets in, nothing is disturbed, everything is counted by its reason."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from collector.access import authorized_file, key_files
from collector.access.key_files import Keys
from collector.settings.parts import requests_endpoint
from shards.protocol import frames
from shards.protocol.histograms import Histogram
from tests.simulator import intruders
from tests.simulator.client import simulator
from tests.system.running import Running, alive, collector, eventually


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """The keys of the only authorized reader; the server's are beside them."""
    folder = tmp_path_factory.mktemp("intruders")
    key_files.write(key_files.make("server"), folder)
    server = Keys.read(folder / "server.key")
    made = key_files.make("alice", server=server.public)
    public = key_files.public_part(made)
    authorized_file.add(
        folder / authorized_file.FILE, authorized_file.of_public(public, max_connections=64)
    )
    _folders[made.public] = folder
    return made


log = logging.getLogger(__name__)
_folders: dict[str, Path] = {}


@pytest.fixture(scope="module")
def running(keys: Keys) -> Iterator[Running]:
    """A collector with keys, everything live."""
    folder = _folders[keys.public]
    with (
        simulator("--markets", "4", "--block-time", "0.1") as venue,
        collector(folder, "--shards", "1", "--config", str(venue.config(folder)),
                  "--keys", str(folder / "server.key"), keys=keys) as started,
    ):  # fmt: skip
        started.await_live()
        yield started


class Reader:
    """An honest reader without our client: every frame as it comes, and how late."""

    def __init__(self, endpoint: str, keys: Keys) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.curve_publickey, self.socket.curve_secretkey = (
            keys.public.encode(), keys.secret.encode(),
        )  # fmt: skip
        self.socket.curve_serverkey = keys.server.encode()
        self.socket.subscribe(b"")
        self.socket.connect(endpoint)
        self.last: dict[bytes, int] = {}
        self.frames = 0

    def read(self, until: float, process: "subprocess.Popen[Any] | None" = None) -> Histogram:
        """Read until an instant, or until a process ends; every topic without a hole."""
        late = Histogram()
        while time.monotonic() < until and (process is None or process.poll() is None):
            if not self.socket.poll(200):
                continue
            topic, body = self.socket.recv_multipart()
            now = time.time_ns()
            header, _ = frames.decode(body)
            expected = self.last.get(topic, header.topic_sequence - 1) + 1
            assert header.topic_sequence == expected, topic
            self.last[topic] = header.topic_sequence
            late.record(max(0, now - header.ts_pub))
            self.frames += 1
        return late

    def close(self) -> None:
        self._context.destroy(linger=0)


def recorded(running: Running, keys: Keys) -> bytes:
    """What alice says on the wire, from her greeting to her subscription."""
    with intruders.Recording(running.publish) as between:
        reader = Reader(between.endpoint, keys)
        assert reader.socket.poll(60_000)
        reader.close()
    assert b"INITIATE" in between.said
    return between.said


def assault(
    running: Running, keys: Keys, attempts: int, within_s: float, seed: int = 1
) -> dict[str, Any]:
    """Let intruders loose, with an honest reader beside them."""
    before = {row["name"]: row["pid"] for row in running.status()["processes"]}
    aggregator = psutil.Process(before["aggregator"])
    processes = [psutil.Process(pid) for pid in before.values()]
    known = running.status()["access"]["refused"]
    replay = recorded(running, keys)
    reader = Reader(running.publish, keys)
    try:
        reader.read(time.monotonic() + 2.0)
        quiet = reader.read(time.monotonic() + 4.0)
        memory = aggregator.memory_info().rss
        endpoints = [running.publish, requests_endpoint(running.publish)]
        with subprocess.Popen(
            [sys.executable, "-m", "tests.simulator.intruders", *endpoints,
             "--server-key", keys.server, "--attempts", str(attempts),
             "--within", str(within_s), "--seed", str(seed), "--recorded", replay.hex(),
             "--hosts", "5000"],
            stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                under_attack = reader.read(time.monotonic() + within_s + 60, process)
                said = process.communicate(timeout=30)[0]
            finally:
                process.kill()
        assert process.returncode == 0
        found: dict[str, Any] = json.loads(said)
        after = reader.read(time.monotonic() + 1.0)
    finally:
        reader.close()
    reasons = ("mechanism", "cryptography", "unfinished", "unknown_key")
    due = sum(known.values()) + sum(found["made"].values()) / 2

    def counted() -> Any:
        """Half of the attempts or more, each reason among them; the last end some time later."""
        access = running.status()["access"]
        refused = access["refused"]
        is_whole = sum(refused.values()) > due and all(refused.get(one) for one in reasons)
        return access if is_whole else None

    access: dict[str, Any] = eventually(
        counted, within_s=30, what=lambda: f"{found}, counted: {running.status()['access']}"
    )
    grown = (aggregator.memory_info().rss - memory) / 2**20
    found |= {
        "attempts": sum(found["made"].values()),
        "refused": access["refused"],
        "frames": reader.frames,
        "p50_p99_us": [
            [round(ns / 1_000) for ns in late.quantiles((0.5, 0.99))]
            for late in (quiet, under_attack, after)
        ],
        "grown_mb": round(grown, 1),
    }
    log.info("%s", json.dumps(found))
    assert found["most_bytes"] < 1_024
    assert alive(processes) == processes
    assert grown < 64
    # A refused connection leaves nothing behind.
    eventually(lambda: running.status()["access"]["connections"] < 12, within_s=30)
    assert "Traceback" not in running.log
    return found


def test_intruders_get_nothing_and_disturb_nobody(running: Running, keys: Keys) -> None:
    assault(running, keys, attempts=2_000, within_s=25.0)


@pytest.mark.nightly
@pytest.mark.alone
@pytest.mark.parametrize("seed", range(10, 60))
def test_a_hundred_thousand_intruders(running: Running, keys: Keys, seed: int) -> None:
    """
    Five thousand attempts at a time: no test may last longer than four minutes.

    About half of them are shut out by the kernel, so that fifty times are a hundred thousand handshakes.
    """
    found = assault(running, keys, attempts=5_000, within_s=200.0, seed=seed)
    assert found["attempts"] + found["shut_out"] > 4_900
    assert found["attempts"] > 2_000
