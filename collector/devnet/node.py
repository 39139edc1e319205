"""The node: start it, stop it, start it again on the same ports; know when it answers."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from collector.devnet.binary import node_binary, node_environment
from collector.devnet.child import Child
from collector.devnet.config import DevnetConfig
from collector.devnet.errors import DevnetError
from collector.devnet.home import LITTER, furnish
from collector.devnet.info import Endpoints
from collector.devnet.markets import Market
from collector.devnet.ports import LOOPBACK, choose_ports
from collector.devnet.probe import accepts, height, lists_markets
from collector.devnet.signer import Signer

KEPT_BLOCKS = 6_000
"""More than a collector replays by default; older ones are pruned."""
KEPT_STATES = 1_000
"""Heights at which a book can still be queried."""
_CACHED_NODES = 20_000
"""Of the state's tree, for each module; the node's own default takes hundreds of megabytes."""
_LOG_LINES = 8
_STOP_WITHIN_S = 5.0
_LONGEST_SOCKET_PATH = 100
"""The systems' own limits are 104 and 108 bytes."""


class Node:
    """
    One chain on loopback: home, ports and markets stay the same from start to start.

    Start it, then ask `is_ready` until it says so; who starts it stops it.
    """

    def __init__(self, home: Path, config: DevnetConfig, keeping: ExitStack) -> None:
        """
        Prepare the home and choose the ports, kept until `keeping` is closed; start nothing.

        Raises:
            DevnetError: If a port is taken, the home cannot be used or the program is missing.

        """
        binary = node_binary()
        environment = node_environment(binary, temporary=home / LITTER)
        self.home = home
        self.ports, peer_port = choose_ports(config.ports, keeping)
        self.markets: Sequence[Market] = furnish(
            home, config, binary=binary, environment=environment
        )
        self._log = home / "node.log"
        self._socket = home / "signer.sock"
        if len(os.fsencode(self._socket)) > _LONGEST_SOCKET_PATH:
            raise DevnetError(f"{home} is too long a path for a socket in it")
        key_file = home / "config" / "priv_validator_key.json"
        self._signer = Signer(self._socket, key_file, block_time_s=config.block_time_s)
        self._child = Child(
            [str(binary), "start", *self._flags(config, peer_port)],
            environment=environment,
            output=self._log,
        )
        self.was_stopped = False

    @property
    def pid(self) -> int:
        """The process id, another one after each start."""
        return self._child.pid

    @property
    def endpoints(self) -> Endpoints:
        """The addresses at which clients reach it."""
        return Endpoints(
            chain_ws=f"ws://{LOOPBACK}:{self.ports.ws}/injstream-ws",
            chain_stream=f"{LOOPBACK}:{self.ports.stream}",
            chain_grpc=f"{LOOPBACK}:{self.ports.grpc}",
            rpc=f"http://{LOOPBACK}:{self.ports.rpc}",
        )

    def start(self) -> None:
        """Start the program; the chain goes on where it was stopped."""
        self.was_stopped = False
        self._socket.unlink(
            missing_ok=True
        )  # a killed node leaves it, and could not create it again
        self._child.start()

    def stop(self) -> None:
        """Stop the program and wait for its end; fine if it is not running."""
        self.was_stopped = True
        self._child.stop(grace_s=_STOP_WITHIN_S)

    def toggle_halt(self) -> None:
        """Let the chain make no more blocks while everything answers; or let it go on."""
        self._signer.toggle()

    def check(self) -> None:
        """
        Do nothing while the program runs.

        Raises:
            DevnetError: If it has ended, with the last lines of its log.

        """
        code = self._child.exit_code
        if code is not None:
            lines = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise DevnetError("\n".join([f"the node ended with code {code}; it said:", *lines]))

    def is_ready(self) -> bool:
        """Say whether blocks are made, all active markets are listed and streams are accepted."""
        return (
            height(self.ports.rpc) >= 2
            and accepts(self.ports.ws)
            and accepts(self.ports.stream)
            and lists_markets(self.ports.grpc, [m.market_id for m in self.markets if not m.paused])
        )

    def _flags(self, config: DevnetConfig, peer_port: int) -> list[str]:
        ports = self.ports
        # By default several of these listen on all interfaces.
        listen = {
            "rpc.laddr": f"tcp://{LOOPBACK}:{ports.rpc}",
            "p2p.laddr": f"tcp://{LOOPBACK}:{peer_port}",
            "grpc.address": f"{LOOPBACK}:{ports.grpc}",
            "injective-websocket.address": f"{LOOPBACK}:{ports.ws}",
            "chainstream.server": f"{LOOPBACK}:{ports.stream}",
            "chainstream.buffer-cap": config.stream_buffer,
            "priv_validator_laddr": f"unix://{self._socket}",
            "rpc.pprof_laddr": "",
            "log-level": "error",
        }
        bounds = {
            "pruning": "custom",
            "pruning-keep-recent": KEPT_STATES,
            "pruning-interval": 10,
            "min-retain-blocks": KEPT_BLOCKS,
            "iavl-cache-size": _CACHED_NODES,
        }
        off = ("api.enable", "grpc-web.enable", "json-rpc.enable", "json-rpc.enable-indexer",
               "p2p.pex")  # fmt: skip
        return [
            f"--home={self.home}",
            *(f"--{name}={value}" for name, value in (listen | bounds).items()),
            *(f"--{name}=false" for name in off),
        ]

    def __repr__(self) -> str:
        return f"<Node {self._child}, rpc {self.ports.rpc}, {len(self.markets)} markets>"
