"""`collector cluster`: what is refused before any Ray is started or asked, in one sentence."""

import socket
from pathlib import Path

import grpc
import pytest

from collector.cli.cluster import ray_node
from collector.cli.cluster_arguments import check
from collector.cluster import driver
from collector.cluster.cell import command_of
from collector.cluster.folder import HostFolder
from collector.cluster.processes import save
from collector.cluster.ray_node import RayNode
from collector.cluster.spec import Placed, Spec
from shards.protocol.errors import ConfigError
from tests.collector.cluster.heads import head
from tests.system.running import run

pytest.importorskip("ray", reason="needs the extra cluster")


def up(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    done = run("cluster", "up", "--folder", str(tmp_path / "here"), *arguments)
    return done.returncode, done.stderr.strip()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--", "--publish", "tcp://127.0.0.1:5590"), "each cell publishes at its host's address"),
        (("--", "--part", "1/2"), "--parts of 'cluster up' says how many"),
        (("--", "--config", "collector.toml"), "give the whole path"),
        (("--", "--network", "devnet"), "a chain of its own"),
        (("--address", "127.0.0.1:1"), "copy it from the head's host"),
        (("--listen", "10.99.99.99:6700"), "this host has no such address"),
        (("--listen", "0.0.0.0:6700"), "name the one address"),
        (("--port", "6695", "--room", "4"), "Ray has the ports 6700 to 6799"),
        (("--listen", "127.0.0.1:65500"), "65436 is the highest port"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    code, said = up(tmp_path, *arguments)
    assert code == 3, said
    assert sentence in said
    assert said.count("\n") == 0
    assert not (tmp_path / "here/ray.json").exists()


def test_cells_that_others_reach_need_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give -- --keys FILE"):
        check(("--network", "mainnet"), "10.0.0.1")


def test_a_port_that_another_program_has_is_refused(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, said = up(tmp_path, "--listen", f"127.0.0.1:{other.getsockname()[1]}")
    assert code == 3
    assert "another program listens there" in said


def test_down_says_how_to_end_a_host_whose_ray_is_away(tmp_path: Path) -> None:
    folder = HostFolder(tmp_path)
    save(folder.ray, RayNode(address="127.0.0.1:1", host="127.0.0.1", room=1, token=""))
    done = run("cluster", "down", "--within", "0.5", "--folder", str(tmp_path))
    assert done.returncode == 3
    assert "the head at 127.0.0.1:1 does not answer" in done.stderr
    assert "'down --here' ends those of this host" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_not_said_again_stays_as_it_is(tmp_path: Path) -> None:
    folder, token = HostFolder(tmp_path), tmp_path / "token"
    token.touch(0o600)
    known = RayNode(address="127.0.0.1:6900", host="127.0.0.1", room=7, token=str(token))
    save(folder.ray, known)
    nothing = dict.fromkeys(("address", "listen", "token", "room"))
    nothing |= {"attach": False, "insecure": False}
    assert ray_node(folder, nothing) == known
    assert ray_node(folder, nothing | {"room": 2}).room == 2
    head = ray_node(folder, nothing | {"listen": "127.0.0.1:6800"})
    assert (head.is_head, head.address, head.room) == (True, "127.0.0.1:6800", 7)


def test_a_host_is_the_head_or_joins_one(tmp_path: Path) -> None:
    code, said = up(tmp_path, "--listen", "127.0.0.1:6700", "--address", "127.0.0.1:6700")
    assert code == 2
    assert "not both" in said


def test_an_option_that_start_does_not_know_is_a_usage_error(tmp_path: Path) -> None:
    code, said = up(tmp_path, "--", "--nonsense")
    assert code == 2
    assert "--nonsense" in said


@pytest.mark.parametrize("name", ["status", "down"])
def test_without_a_cluster_a_command_says_how_to_start_one(tmp_path: Path, name: str) -> None:
    done = run("cluster", name, "--folder", str(tmp_path))
    assert done.returncode == 3
    assert "this host belongs to no cluster" in done.stderr
    assert "cluster up" in done.stderr


def test_scale_needs_a_size() -> None:
    assert run("cluster", "scale").returncode == 2


def test_the_head_makes_a_token_that_only_its_user_can_read(tmp_path: Path) -> None:
    folder = HostFolder(tmp_path / "here")
    path = Path(driver.token_of(folder, None, is_head=True))
    assert path.stat().st_mode & 0o777 == 0o600
    first = path.read_text()
    assert len(first) == 64
    assert driver.token_of(folder, None, is_head=True) == str(path)
    assert path.read_text() == first
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        driver.token_of(folder, None, is_head=True)


def test_a_ray_without_a_token_is_refused(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    with head(None) as address:
        code, said = up(tmp_path, "--address", address, "--token", str(token))
    assert code == 3
    assert "asks for no token" in said
    assert not (tmp_path / "here/ray.json").exists()


def test_a_ray_that_asks_for_a_token_is_known() -> None:
    with head(grpc.StatusCode.UNAUTHENTICATED) as address:
        assert driver.asks_for_token(address) is True
    with head(None) as address:
        assert driver.asks_for_token(address) is False
    assert driver.asks_for_token(address) is None


def test_a_cell_has_its_part_its_ports_its_state_and_its_archive() -> None:
    spec = Spec(parts=3, arguments=("--record", "/data/archive", "--network", "mainnet"))
    command = command_of(Placed("2/3", 1), spec, "10.0.0.7", Path("/state/2-of-3"))
    assert command[3:] == [
        *("start", "--publish", "tcp://10.0.0.7:5592", "--state", "/state/2-of-3"),
        *("--part", "2/3", "--record", "/data/archive/2-of-3", "--network", "mainnet"),
    ]


def test_a_cell_of_the_former_size_runs_as_it_did() -> None:
    state = Path("/state")
    whole, half = Placed("1/1", 0), Placed("1/2", 0)
    one, two = Spec(parts=1), Spec(parts=2)
    assert command_of(whole, one, "a", state) == command_of(whole, two, "a", state)
    assert command_of(half, one, "a", state) == command_of(half, two, "a", state)
    assert "--part" not in command_of(whole, two, "a", state)
    assert "1/2" in command_of(half, one, "a", state)
