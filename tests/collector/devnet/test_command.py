"""Without a node: the options, and what is said when there can be no devnet."""

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest
from click.testing import CliRunner

from collector.cli.devnet import devnet
from collector.devnet.binary import node_binary
from collector.devnet.config import Ports
from collector.devnet.errors import DevnetError
from collector.devnet.ports import choose_ports


def test_every_option_has_a_help_text():
    assert all(getattr(option, "help", None) for option in devnet.params)


@pytest.mark.parametrize(
    "idle", [["--quiet-markets", "3"], ["--quiet-markets", "1", "--paused-markets", "2"]]
)
def test_more_idle_markets_than_markets_is_a_usage_error(idle):
    result = CliRunner().invoke(devnet, ["--spot", "1", "--perp", "1", *idle])
    assert result.exit_code == 2
    assert "--quiet-markets" in result.output


@pytest.mark.parametrize("package", ["injective_core", "ecdsa", "Crypto"])
def test_missing_extra_is_said_in_one_sentence(package):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from collector.cli.devnet import devnet; devnet(['--json'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert package in done.stderr
    assert "pip install" in done.stderr
    assert "[devnet]" in done.stderr


def test_a_missing_package_is_an_error_for_whoever_imports_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "injective_core", None)
    with pytest.raises(DevnetError, match="devnet"):
        node_binary()


def test_importing_the_command_is_cheap():
    code = "import sys, collector.cli.devnet; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"grpc", "google", "ecdsa", "Crypto", "asyncio", "injective_core"}
    assert not heavy & set(done.stdout.split())


def test_free_ports_are_different_and_nobody_else_is_given_them_while_the_node_boots():
    with ExitStack() as keeping, ExitStack() as others:
        ports, peer = choose_ports(Ports(), keeping)
        ours = {ports.rpc, ports.ws, ports.grpc, ports.stream, peer}
        assert len(ours) == 5
        for _ in range(500):
            other = others.enter_context(socket.create_server(("127.0.0.1", 0)))
            assert other.getsockname()[1] not in ours
        # And yet the node can listen there.
        for port in ours:
            others.enter_context(socket.create_server(("127.0.0.1", port)))


def test_a_taken_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as sock, ExitStack() as keeping:
        taken = sock.getsockname()[1]
        with pytest.raises(DevnetError, match=f"port {taken} "):
            choose_ports(Ports(ws=taken), keeping)
