"""`collector doctor` on a good machine, and on machines and networks with one thing wrong each."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from tests.needs import FAKETIME
from tests.system.running import Devnet, free_port_pair

NODE_BY_NODE = 'chain_ws = ["{chain_ws}"]\nchain_stream = ["{chain_stream}"]\n'
QUERIES = 'chain_grpc = ["{chain_grpc}"]\nrpc = ["{rpc}"{more}]\n'
Found = dict[str, list[tuple[str, str]]]


def config(folder: Path, node: Devnet, *, more: str = "", **others: str) -> str:
    """Describe the devnet in a file; single endpoints may be others, and there may be more RPCs."""
    endpoints: dict[str, str] = node.info["endpoints"]
    path = folder / "collector.toml"
    path.write_text(f"[network]\n{NODE_BY_NODE}{QUERIES}".format(**(endpoints | others), more=more))
    return str(path)


def doctor(*arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> tuple[int, Found]:
    """Run it; return the exit code, and verdicts and texts by what was looked at."""
    publish = f"tcp://127.0.0.1:{free_port_pair()}"
    command = (*prefix, sys.executable, "-m", "collector", "doctor", "--json", "--publish", publish)
    done = subprocess.run(
        (*command, *arguments),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    found: Found = {}
    for line in done.stdout.splitlines():
        row = json.loads(line)
        found.setdefault(row["what"], []).append((row["verdict"], row["text"]))
    return done.returncode, found


def wrong(found: Found) -> list[str]:
    return [text for rows in found.values() for verdict, text in rows if verdict == "bad"]


def test_a_good_machine_has_nothing_wrong(node: Devnet, tmp_path: Path):
    for source, stream in (("chain-ws", "chain_ws"), ("chain-grpc", "chain_stream")):
        code, found = doctor("--config", config(tmp_path, node), "--source", source)
        assert (code, wrong(found)) == (0, [])
        assert {"files", "memory", "processors", "state", "ports", "clock", "rpc"} <= found.keys()
        assert "lists 16 markets" in found["chain_grpc"][0][1]
        assert "streams: the first data" in found[stream][0][1]
        assert "injective v" in found["rpc"][0][1]


@FAKETIME.required()
@pytest.mark.parametrize(("shift", "said"), [("+30s", "s ahead of"), ("-30s", "s behind")])
def test_a_clock_half_a_minute_off(node: Devnet, tmp_path: Path, shift: str, said: str):
    faketime = ("faketime", "-f", shift)
    code, found = doctor("--config", config(tmp_path, node), prefix=faketime)
    assert code == 4
    [text] = wrong(found)
    assert text.startswith(("30.", "29.")), text
    assert said in text
    assert "set it (timedatectl set-ntp true" in text


def test_64_files(node: Devnet, tmp_path: Path):
    code, found = doctor(
        "--config", config(tmp_path, node), prefix=("bash", "-c", 'ulimit -n 64; exec "$@"', "-")
    )
    assert code == 4
    assert [text.partition(" open files")[0] for text in wrong(found)] == ["64"]
    assert "ulimit -n 4096" in wrong(found)[0]


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte that has no room left."""
    place = tmp_path / "full"
    place.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place))
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        with pytest.raises(OSError, match="No space"):
            (place / "rubbish").write_bytes(bytes(2 << 20))
        yield place
    finally:
        subprocess.run(("umount", "-l", str(place)), check=True)


def test_a_full_disk(node: Devnet, tmp_path: Path, full_disk: Path):
    told = ("--config", config(tmp_path, node), "--record", str(full_disk / "archive"))
    code, found = doctor(*told)
    assert code == 4
    assert wrong(found) == [
        f"{full_disk}: the disk is full: free some space, or name another folder"
    ]
    assert found["archive"][0][0] == "bad"


def test_an_endpoint_that_is_down(node: Devnet, tmp_path: Path):
    code, found = doctor("--config", config(tmp_path, node, more=', "http://127.0.0.1:9"'))
    assert code == 4
    [text] = wrong(found)
    assert text.startswith("http://127.0.0.1:9: ")
    assert "is it up, and is this its address?" in text


def test_an_endpoint_with_an_older_api(node: Devnet, tmp_path: Path):
    # A server of gRPC that has none of the services that are asked for, as one of another age.
    server = grpc.server(futures.ThreadPoolExecutor(2))
    where = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        old_stream = config(tmp_path, node, chain_stream=where)
        code, found = doctor("--config", old_stream, "--source", "chain-grpc")
        assert (code, len(wrong(found))) == (4, 1)
        assert wrong(found)[0].startswith(f"{where} has an older API")
        code, found = doctor("--config", config(tmp_path, node, chain_grpc=where))
        assert wrong(found)[0].startswith(f"{where} has an older API")
    finally:
        server.stop(None)


def test_what_is_for_a_devnet_of_its_own():
    code, found = doctor("--network", "devnet", "--http", str(free_port_pair()), "--web")
    assert "it starts with the collector" in found["devnet"][0][1]
    assert code == 0, found
