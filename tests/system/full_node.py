"""A second node of a devnet's chain: it follows the validator over a link that can be cut."""

import base64
import contextlib
import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from collector.devnet.binary import node_binary, node_environment
from collector.devnet.child import Child
from collector.devnet.home import run_node
from collector.devnet.probe import accepts, height
from tests.proxy import FaultProxy
from tests.system.running import Devnet, eventually, free_port_pair

_HOST = "127.0.0.1"
_LAGS: Final = 10
"""So many blocks behind, a node is waited for only while it comes nearer."""
_PATIENCE_S: Final = 20.0


class FullNode:
    """It answers everything, and makes no blocks of its own."""

    def __init__(self, ports: dict[str, int], link: FaultProxy, child: Child) -> None:
        self.rpc = f"http://{_HOST}:{ports['rpc']}"
        self.ws = f"ws://{_HOST}:{ports['ws']}/injstream-ws"
        self.stream = f"{_HOST}:{ports['stream']}"
        self.grpc = f"{_HOST}:{ports['grpc']}"
        self._link = link
        self._child = child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def stand_still(self) -> None:
        """Cut the link to the validator: no block comes any more, and everything is answered."""
        self._link.refuse()
        self._link.cut()

    def follow(self, *, restart: bool) -> None:
        """
        Let the link be made again: it catches up.

        A node that had no peer for minutes dials again after many more, so that an operator starts
        it again (``restart``).
        """
        self._link.heal()
        if restart:
            self._child.stop(grace_s=5.0)
            self._child.start()


@contextlib.contextmanager
def full_node(validator: Devnet) -> Iterator[FullNode]:
    """Run a full node beside a devnet, at its head when the block begins."""
    home = Path(tempfile.mkdtemp(prefix="full-node-"))
    binary = node_binary()
    (home / "tmp").mkdir()
    environment = node_environment(binary, temporary=home / "tmp")
    run_node([str(binary), "init", "full", "--chain-id", "injective-777"], home, environment)
    theirs = Path(validator.info["home"])
    shutil.copy(theirs / "config" / "genesis.json", home / "config" / "genesis.json")
    _configure(home)
    ports = {name: free_port_pair() for name in ("rpc", "ws", "grpc", "stream", "p2p")}
    with FaultProxy(_HOST, _peer_port(validator)) as link:
        peer = f"{_peer_id(theirs)}@{_HOST}:{link.port}"
        log = home / "node.log"
        flags = [f"--home={home}", *_flags(ports, peer)]
        child = Child([str(binary), "start", *flags], environment=environment, output=log)
        try:
            child.start()
            node = FullNode(ports, link, child)
            laggard = _Laggard(child)
            eventually(
                lambda: _is_ready(ports, validator, laggard),
                within_s=600,
                every_s=0.2,
                what=lambda: (
                    f"a full node at the head: it is at {height(ports['rpc'])}, the validator at "
                    f"{height(port_of(validator.rpc))}; log:\n{log.read_text()[-3_000:]}"
                ),
            )
            yield node
        finally:
            child.stop(grace_s=5.0)
            shutil.rmtree(home, ignore_errors=True)


class _Laggard:
    """
    Starts a node again that does not come nearer to the head.

    A node that was at the head and then fell behind gets its blocks one by one, as votes, which on a
    busy machine is slower than the chain. One that starts fetches them all.
    """

    def __init__(self, child: Child) -> None:
        self._child = child
        self._least = 1 << 30
        self._since = time.monotonic()

    def look(self, behind: int) -> None:
        now = time.monotonic()
        if behind < self._least:
            self._least, self._since = behind, now
        elif behind > _LAGS and now - self._since > _PATIENCE_S:
            self._child.stop(grace_s=5.0)
            self._child.start()
            self._least, self._since = 1 << 30, time.monotonic()


def _is_ready(ports: dict[str, int], validator: Devnet, laggard: _Laggard) -> bool:
    head = height(port_of(validator.rpc))
    mine = height(ports["rpc"])
    laggard.look(head - mine)
    return 2 < head <= mine + 1 and accepts(ports["ws"]) and accepts(ports["stream"])


def port_of(url: str) -> int:
    """Return the port that a URL ends in."""
    return int(url.rpartition(":")[2])


def _peer_port(validator: Devnet) -> int:
    """Return the port on which the devnet's node waits for peers."""
    command = " ".join(psutil.Process(validator.info["pids"]["node"]).cmdline())
    found = re.search(r"--p2p\.laddr=tcp://[^:]+:(\d+)", command)
    assert found is not None, command
    return int(found[1])


def _peer_id(home: Path) -> str:
    """Return a node's name among its peers: the head of its public key's hash."""
    key = json.loads((home / "config" / "node_key.json").read_text())
    public = base64.b64decode(key["priv_key"]["value"])[32:]
    return hashlib.sha256(public).hexdigest()[:40]


def _configure(home: Path) -> None:
    path = home / "config" / "config.toml"
    text = path.read_text()
    for name, value in (("addr_book_strict", "false"), ("allow_duplicate_ip", "true")):
        text = re.sub(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
    path.write_text(re.sub(r"^indexer = .*$", 'indexer = "null"', text, flags=re.MULTILINE))


def _flags(ports: dict[str, int], peer: str) -> list[str]:
    values = {
        "rpc.laddr": f"tcp://{_HOST}:{ports['rpc']}",
        "p2p.laddr": f"tcp://{_HOST}:{ports['p2p']}",
        "p2p.persistent_peers": peer,
        "grpc.address": f"{_HOST}:{ports['grpc']}",
        "injective-websocket.address": f"{_HOST}:{ports['ws']}",
        "chainstream.server": f"{_HOST}:{ports['stream']}",
        "chainstream.buffer-cap": 100,
        "rpc.pprof_laddr": "",
        "log-level": "error",
        "iavl-cache-size": 20_000,
    }
    off = ("api.enable", "grpc-web.enable", "json-rpc.enable", "json-rpc.enable-indexer", "p2p.pex")
    return [
        *(f"--{name}={value}" for name, value in values.items()),
        *(f"--{name}=false" for name in off),
    ]
