"""
The check itself: equal on a real node, and able to see each kind of difference.

One devnet and one recorded capture serve all tests; the capture is tampered with, the answers of
the chain are real.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from collector.devnet.info import DevnetInfo
from collector.verify import capture
from tests.dripping import dripping
from tests.system.running import free_port_pair

pytestmark = pytest.mark.node

Record = tuple[str, bytes]
PREFIX = 60


class World(NamedTuple):
    """A node, a collector's endpoint, and what one clean check of it said and recorded."""

    info: DevnetInfo
    publish: str
    exit_code: int
    findings: dict[str, Any]
    records: list[Record]


@contextmanager
def running(folder: Path, name: str, *arguments: object) -> "Iterator[subprocess.Popen[bytes]]":
    """Run one of our commands; whatever happens, end it."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "collector", name, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        with process:
            try:
                yield process
            finally:
                process.terminate()
                process.wait(90)


def verify(info: DevnetInfo, *arguments: object) -> "subprocess.CompletedProcess[str]":
    endpoints = info.endpoints
    node = ("--rpc", endpoints.rpc, "--grpc", endpoints.chain_grpc, "--max-rps", "500")
    command = [sys.executable, "-m", "collector", "verify", *node, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("verify")
    devnet = ("--json", "--stop-with-stdin", "--spot", 4, "--perp", 2, "--quiet-markets", 1)
    with running(folder, "devnet", *devnet) as node:
        assert node.stdout is not None
        info = msgspec.json.decode(node.stdout.readline(), type=DevnetInfo)
        publish = f"tcp://127.0.0.1:{free_port_pair()}"
        config = write_config(folder, info)
        start = ("--config", config, "--shards", 2, "--publish", publish)
        with running(folder, "start", *start):
            wait_until_live(publish)
            record = folder / "clean.capture"
            watch = ("--connect", publish, "--duration", 8, "--books-every", 2)
            done = verify(info, *watch, "--record", record, "--json")
            assert done.stdout, done.stderr
            records = list(capture.read(str(record)))
            yield World(info, publish, done.returncode, json.loads(done.stdout), records)


def write_config(folder: Path, info: DevnetInfo) -> Path:
    endpoints = msgspec.structs.asdict(info.endpoints)
    path = folder / "collector.toml"
    network = {name: [endpoint] for name, endpoint in endpoints.items()}
    path.write_bytes(msgspec.toml.encode({"network": network}))
    return path


def wait_until_live(publish: str, within_s: float = 120.0) -> None:
    command = [sys.executable, "-m", "collector", "status", "--json", "--connect", publish]
    deadline = time.monotonic() + within_s
    while True:
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode == 0 and json.loads(done.stdout)["coverage"]["now"] == 1.0:
            return
        assert time.monotonic() < deadline, "the collector does not become live"


def check(world: World, folder: Path, records: list[Record]) -> tuple[int, dict[str, Any]]:
    """Check a capture of these records: exit code and findings."""
    path = folder / "tampered.capture"
    with path.open("wb") as file:
        for topic, body in records:
            capture.write(file, topic, body)
    done = verify(world.info, "--capture", path, "--books-every", 2, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def tampered(
    world: World, channel: str, change: Callable[[list[Any]], bool], *, from_end: bool = False
) -> list[Record]:
    """Change the event of the first frame, within the window, that `change` accepts; or the last."""
    first, last = world.findings["first"], world.findings["last"]
    records = list(world.records)
    order = range(len(records) - 1, -1, -1) if from_end else range(len(records))
    for at in order:
        topic, body = records[at]
        if topic.startswith(f"{channel}."):
            event = msgspec.msgpack.decode(body[PREFIX:])
            # Changes after the window still count for the books that are checked at its end.
            if first <= event[1] and (from_end or event[1] <= last) and change(event):
                records[at] = (topic, body[:PREFIX] + msgspec.msgpack.encode(event))
                return records
    raise AssertionError(f"no frame of {channel} could be changed")


def remove_trade(event: list[Any]) -> bool:
    del event[5][0]
    return True


def double_trade(event: list[Any]) -> bool:
    event[5].insert(1, event[5][0])
    return True


def alter_trade(event: list[Any]) -> bool:
    quantity = event[5][0][3]
    event[5][0][3] = quantity[:-1] + "1"
    return True


def alter_level(event: list[Any]) -> bool:
    for level in event[8]:
        if not set(level[1]) <= {"0", "."}:
            level[1] = level[1][:-1] + "1"
            return True
    return False


def skip_update(event: list[Any]) -> bool:
    if not event[6]:
        event[2] += 1
    return not event[6]


def test_a_clean_run_is_equal(world: World) -> None:
    findings = world.findings
    assert world.exit_code == 0, findings
    assert findings["equal"]
    assert findings["trades"]["checked"] > 0
    assert findings["books"]["checked"] > findings["markets"] == 6
    assert findings["blocks"]["checked"] == 6 * (findings["last"] - findings["first"] + 1)
    assert findings["books"]["unchecked"] == 0


def test_its_capture_says_the_same(world: World, tmp_path: Path) -> None:
    code, findings = check(world, tmp_path, world.records)
    assert code == 0, findings
    assert findings == world.findings


@pytest.mark.parametrize(
    ("change", "count"),
    [(remove_trade, "missing"), (double_trade, "doubled"), (alter_trade, "altered")],
)
def test_one_trade_that_is_not_as_on_the_chain_is_found(
    world: World, tmp_path: Path, change: Callable[[list[Any]], bool], count: str
) -> None:
    code, findings = check(world, tmp_path, tampered(world, "trades", change))
    assert code == 4
    counts = findings["trades"]
    names = ("missing", "doubled", "altered", "extra", "disordered")
    assert {name: counts[name] for name in names} == dict.fromkeys(names, 0) | {count: 1}
    assert counts["checked"] == world.findings["trades"]["checked"]
    assert len(findings["examples"]) == 1


def test_a_trade_that_the_chain_does_not_have_is_found(world: World, tmp_path: Path) -> None:
    def invent(event: list[Any]) -> bool:
        event[5].append([f"{event[1]}_999999", *event[5][0][1:]])
        return True

    code, findings = check(world, tmp_path, tampered(world, "trades", invent))
    assert code == 4
    assert findings["trades"]["extra"] == 1


def test_one_altered_level_of_a_book_is_found(world: World, tmp_path: Path) -> None:
    # The last one of all: its book is checked, and nothing can put it right before.
    code, findings = check(world, tmp_path, tampered(world, "book", alter_level, from_end=True))
    assert code == 4
    assert findings["books"]["differing"] >= 1
    assert findings["books"]["broken"] == 0
    assert "asks differ" in findings["examples"][0]


def test_a_break_in_a_books_sequence_is_found(world: World, tmp_path: Path) -> None:
    code, findings = check(world, tmp_path, tampered(world, "book", skip_update))
    assert code == 4
    assert findings["books"]["broken"] == 2


def test_a_hole_in_the_ledger_is_found(world: World, tmp_path: Path) -> None:
    records = list(world.records)
    end = msgspec.msgpack.decode(records[-1][1])
    symbol = next(iter(end["heights"]))
    end["holes"] = {symbol: [[end["last"] - 1, end["last"]]]}
    records[-1] = ("end", msgspec.msgpack.encode(end))
    code, findings = check(world, tmp_path, records)
    assert code == 4
    assert findings["blocks"]["missing"] == 2


def test_one_market_can_be_checked_by_name(world: World) -> None:
    ticker = world.info.markets[0].ticker
    done = verify(
        world.info, "--connect", world.publish, "--duration", 4, "--market", ticker, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["markets"] == 1


def test_a_malformed_endpoint_is_said_before_anything_is_asked(world: World) -> None:
    done = verify(world.info, "--connect", "nowhere")
    assert done.returncode == 2
    assert "tcp://HOST:PORT" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rpc", "http://127.0.0.1:9"), "http://127.0.0.1:9 does not give its height"),
        (("--grpc", "127.0.0.1:9"), "127.0.0.1:9 does not give order book"),
        (("--connect", "tcp://127.0.0.1:9"), "tcp://127.0.0.1:9 (requests go to port 10)"),
        (("--market", "NOPE/USDT"), "no market matches 'NOPE/USDT'"),
        (("--capture", "/none"), "/none"),
    ],
)
def test_what_cannot_be_reached_is_said_in_one_sentence(
    world: World, arguments: tuple[str, ...], words: str
) -> None:
    done = verify(world.info, "--connect", world.publish, "--patience", 1, *arguments)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_a_node_whose_answer_never_ends_is_not_waited_for(world: World) -> None:
    """A byte now and then: no single read is ever late."""
    with dripping(b"HTTP/1.1 200 OK\r\n\r\n") as where:
        done = verify(world.info, "--rpc", f"http://{where}", "--patience", 1)
    assert done.returncode == 3
    assert done.stderr == (
        f"collector verify: http://{where} does not give its height: no whole answer within 10 s\n"
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "its answer is not JSON: is it a CometBFT RPC?"),
        (b"null", "its answer has another form: is it an Injective node of this release?"),
        (
            b'{"result": []}',
            "its answer has another form: is it an Injective node of this release?",
        ),
    ],
)
def test_another_server_is_named_in_words_of_ours(world: World, body: bytes, said: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with dripping(head) as where:
        done = verify(world.info, "--rpc", f"http://{where}", "--patience", 0)
    assert done.returncode == 3
    assert done.stderr == f"collector verify: http://{where} does not give its height: {said}\n"


def test_the_secrets_of_an_address_are_not_shown(world: World) -> None:
    secret = "http://someone:hunter2@127.0.0.1:9/rpc?apikey=K123"
    done = verify(world.info, "--rpc", secret, "--patience", 0)
    assert done.returncode == 3
    assert done.stderr.startswith(
        "collector verify: http://***@127.0.0.1:9/rpc?apikey=*** does not"
    )
    done = verify(world.info, "--rpc", secret.replace("http:", "ws:"))
    assert done.returncode == 3
    assert "hunter2" not in done.stderr
    assert "K123" not in done.stderr
    assert "is not of the form http://HOST:PORT" in done.stderr
