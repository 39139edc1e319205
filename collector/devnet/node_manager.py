"""
Keep the node and the trader running, and leave nothing behind.

A process of its own, in a session of its own: a terminal's Ctrl-C does not reach it, and when the
command dies, however it dies, the pipe from it ends and the keeper tidies up.
"""

import logging
import os
import signal
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from collector.devnet.binary import need_client
from collector.devnet.child import Child
from collector.devnet.config import DevnetConfig
from collector.devnet.errors import DevnetError
from collector.devnet.home import CHAIN_ID, chain_home, tidy
from collector.devnet.info import DevnetInfo, DevnetMarket, Pids
from collector.devnet.lifeline import Lifeline
from collector.devnet.node import Node
from collector.devnet.protocol import HALT, RESTART, Failed, HomeCreated, Ready, Report
from collector.devnet.trading import TraderConfig

log = logging.getLogger("collector.devnet")

_BOOT_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.1
_TIDY_EVERY_S = 60.0
_TRADER_GRACE_S = 3.0
_MAX_DEATHS = 5
"""Unexpected ends of node and trader together, after which the devnet gives up."""


class _Stopped(Exception):
    """The command asks for the end, or is gone."""


class NodeManager:
    """Run one devnet until the pipe from the command ends."""

    def __init__(self, config: DevnetConfig, lifeline: Lifeline) -> None:
        self._config = config
        self._lifeline = lifeline
        self._deaths = 0

    def run(self) -> None:
        """
        Boot, trade, and stop when told to; nothing is left when this returns or raises.

        Raises:
            DevnetError: If no devnet can be started or reused.

        """
        with (
            suppress(_Stopped),
            chain_home(self._config.home) as home,
            ExitStack() as keeping,
        ):
            _say(HomeCreated(str(home), self._config.home is None))
            need_client()
            # To make a chain takes a second or more: not if the end was asked for already.
            self._read_orders(0.0)
            node = Node(home, self._config, keeping)
            trader = _trader(node, self._config)
            try:
                self._boot(node)
                if self._config.traffic != "none":
                    trader.start()
                _say(Ready(self._info(node, trader)))
                self._watch(node, trader)
            finally:
                trader.stop(grace_s=_TRADER_GRACE_S)
                node.stop()

    def _boot(self, node: Node) -> None:
        node.start()
        deadline = time.monotonic() + _BOOT_WITHIN_S
        while not node.is_ready():
            self._obey(node, _LOOK_EVERY_S)
            node.check()
            if time.monotonic() > deadline:
                raise DevnetError(f"the node did not answer within {_BOOT_WITHIN_S:.0f} s")

    def _watch(self, node: Node, trader: Child) -> None:
        while True:
            # A child's death is a signal too, so there is nothing else to wake for.
            if self._obey(node, _TIDY_EVERY_S):
                log.info("restarting the node")
                node.stop()
            tidy(node.home)
            if self._node_is_down(node):
                self._boot(node)
                _say(Ready(self._info(node, trader)))
            if trader.exit_code is not None:
                self._count_death(f"the trader ended with code {trader.exit_code}")
                trader.start()

    def _node_is_down(self, node: Node) -> bool:
        try:
            node.check()
        except DevnetError as exc:
            if not node.was_stopped:
                self._count_death(str(exc))
            return True
        return False

    def _count_death(self, what: str) -> None:
        self._deaths += 1
        if self._deaths > _MAX_DEATHS:
            raise DevnetError(what)
        log.warning("%s\nstarting it again", what)

    def _obey(self, node: Node, timeout_s: float | None) -> bool:
        """Wait; toggle the halt if asked to; return whether a restart was requested."""
        orders = self._read_orders(timeout_s)
        for _ in range(orders.count(HALT)):
            node.toggle_halt()
        return RESTART in orders

    def _read_orders(self, timeout_s: float | None) -> list[bytes]:
        """Wait for orders, or for the end of a child; raise `_Stopped` if the end is asked for."""
        orders: list[bytes] = []
        for _, what in self._lifeline.wait(timeout_s):
            if what in (b"", signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                log.debug("stopping")
                raise _Stopped
            if isinstance(what, bytes):
                orders += what.splitlines(keepends=True)
        return orders

    def _info(self, node: Node, trader: Child) -> DevnetInfo:
        return DevnetInfo(
            chain_id=CHAIN_ID,
            home=str(node.home),
            block_time_s=self._config.block_time_s,
            endpoints=node.endpoints,
            markets=tuple(
                DevnetMarket(
                    market_id=m.market_id,
                    ticker=m.ticker,
                    type=m.type,
                    quiet=m.quiet,
                    paused=m.paused,
                )
                for m in node.markets
            ),
            pids=Pids(devnet=os.getppid(), node=node.pid, trader=trader.pid or None),
        )


def _trader(node: Node, config: DevnetConfig) -> Child:
    plan = TraderConfig(
        chain_id=CHAIN_ID,
        chain_grpc=node.endpoints.chain_grpc,
        chain_stream=node.endpoints.chain_stream,
        block_time_s=config.block_time_s,
        traffic=config.traffic,
        seed=config.seed,
    )
    # The markets go by file: hundreds of them do not fit into an argument of every system.
    path = Path(node.home) / "trader.json"
    path.write_bytes(msgspec.json.encode((plan, node.markets)))
    return Child([sys.executable, "-m", "collector.devnet.trader", str(path)])


def _say(report: Report) -> None:
    try:
        os.write(sys.stdout.fileno(), msgspec.json.encode(report) + b"\n")
    except BrokenPipeError:
        log.debug("the reports have no reader any more")  # and the other pipe has ended too


def main() -> None:
    """Run as `python -m collector.devnet.node_manager CONFIG`, with pipes as stdin and stdout."""
    stops = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    lifeline = Lifeline(signals=(*stops, signal.SIGCHLD), pipes=[sys.stdin.fileno()])
    logging.basicConfig(format="devnet: %(message)s", level=logging.INFO)
    try:
        NodeManager(msgspec.json.decode(sys.argv[1], type=DevnetConfig), lifeline).run()
    except DevnetError as exc:
        _say(Failed(str(exc)))


if __name__ == "__main__":
    main()
