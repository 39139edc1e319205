"""A2: a node that answers while its chain stands still, beside one that goes on."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from collector.devnet.probe import height
from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.system.drill.registry import Stage, drill
from tests.system.full_node import FullNode, full_node, port_of
from tests.system.listening import Listener, assert_every_trade_once, first_due
from tests.system.running import Devnet, Running, collector, devnet, eventually

Node: TypeAlias = Simulator | Devnet | FullNode

_BLOCK_S = 0.3
_NODE_BLOCK_S = 1.0
_MUTE_S = 2.0
"""Of `limits.mute_floor_s`: five block times are less."""
_RETURN_S = 30.0
"""A breaker may be open for ten seconds, and a trial takes five."""


@drill("A2", "one of two nodes stands still, and goes on answering")
def stands_still(stage: Stage) -> None:
    """The other takes over without a hole; the first is returned to only at the head."""
    with _two_nodes() as (still, going):
        config = _config(stage.folder, still, going)
        with (
            collector(stage.folder, "--config", str(config)) as running,
            _listening(running) as listener,
        ):
            still.inject(faults.Halt(for_s=3_600))
            stage.broke("node A makes no blocks any more, and answers; node B goes on")
            stage.await_(
                "seen", "connected to node B", lambda: going.ws in running.log, within_s=20
            )
            seen_s = stage.elapsed_s
            stage.await_("healed", "all live, all gaps closed", running.live, within_s=10)
            stage.await_(
                "said", "the status says that A is behind", lambda: _behind(running, still.rpc),
                within_s=20,
            )  # fmt: skip
            _watch(stage, running, still, seconds=8 if stage.short else 600)
            assert not running.status()["halted"]
            still.heal()
            stage.note("done", "node A goes on, and catches up")
            stage.await_(
                "healed",
                "back at node A, which brings blocks at the head again",
                lambda: running.log.count(f"connected to {still.ws}") == 2,
                within_s=40,
            )
            stage.await_("healed", "all live", running.live, within_s=10)
            status = running.status()
            assert not listener.drain().lost, listener.lost
    assert seen_s <= 2 * _MUTE_S + 1, seen_s
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0), status["holes"]


@drill(
    "A2N",
    "the same on two real nodes: a validator, and a full node",
    needs_node=True,
    is_short=False,
)
def stands_still_on_nodes(stage: Stage) -> None:
    """The full node's link to the validator is cut: it stands still, and answers everything."""
    options = ("--block-time", str(_NODE_BLOCK_S), "--traffic", "quiet")
    with devnet(*options) as going, full_node(going) as still:
        path = _config(stage.folder, still, going)
        with (
            collector(stage.folder, "--config", str(path)) as running,
            _listening(running) as listener,
        ):
            first = first_due(going)
            still.stand_still()
            stage.broke("node A hears of no block any more, and answers; node B goes on")
            stage.await_(
                "seen", "connected to node B", lambda: going.ws in running.log, within_s=30
            )
            seen_s = stage.elapsed_s
            stage.await_("healed", "all live, all gaps closed", running.live, within_s=20)
            stage.await_(
                "said", "the status says that A is behind", lambda: _behind(running, still.rpc),
                within_s=30,
            )  # fmt: skip
            stage.await_(
                "said", "and so is its server of queries", lambda: _behind(running, still.grpc),
                within_s=30,
            )  # fmt: skip
            _watch(stage, running, still, seconds=8 if stage.short else 600)
            still.follow()
            stage.note("done", "the link is there again, and node A catches up")
            # Peers give it a few blocks a second, fewer on a busy machine.
            stage.await_(
                "done",
                "node A is at the head again",
                lambda: height(port_of(still.rpc)) >= height(port_of(going.rpc)) > 0,
                within_s=120 if stage.short else 900,
            )
            stage.await_(
                "healed",
                "back at node A, which brings blocks at the head again",
                lambda: running.log.count(f"connected to {still.ws}") == 2,
                within_s=_RETURN_S,
            )
            status = running.await_live(30)
            last = status["blocks"]["last"]
            assert_every_trade_once(going, listener, first, last)
            stage.note("healed", "every trade once, held against the validator's record")
            assert not listener.drain().lost, listener.lost
    assert seen_s <= 2 * 5 * _NODE_BLOCK_S + 1, seen_s
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0), status["holes"]


@drill("A2Q", "a node for queries that is behind the stream")
def query_behind(stage: Stage) -> None:
    """Its books are too old; each is asked for at the next node at once."""
    with _two_nodes() as (still, going):
        still.inject(faults.StaleSnapshot(protocol="grpc", behind=20))
        config = _config(stage.folder, still, going)
        stage.broke("node A answers book queries from 20 blocks ago; a collector starts")
        with collector(stage.folder, "--config", str(config)) as running:
            stage.await_(
                "seen",
                "node B is asked for the books",
                lambda: going.stats()["queries"] > 0,
                within_s=30,
            )
            stage.await_("healed", "all books joined, all live", running.live, within_s=10)
            status = running.status()
    assert status["completeness"] == 1.0


@contextlib.contextmanager
def _two_nodes() -> Iterator[tuple[Simulator, Simulator]]:
    """Two nodes of one chain: equal seeds, one clock."""
    clock = str(int(time.time() * 1_000) + 1_500)
    options = ("--markets", "6", "--block-time", str(_BLOCK_S), "--clock", clock)
    with simulator(*options) as one, simulator(*options) as two:
        yield one, two


def _config(folder: Path, first: Node, second: Node) -> Path:
    path = folder / "collector.toml"
    path.write_text(
        "[network]\n"
        f'chain_ws = ["{first.ws}", "{second.ws}"]\n'
        f'chain_grpc = ["{first.grpc}", "{second.grpc}"]\n'
        f'rpc = ["{first.rpc}", "{second.rpc}"]\n'
        f"[limits]\nmute_floor_s = {_MUTE_S}\nreturn_s = 1.0\n"
    )
    return path


@contextlib.contextmanager
def _listening(running: Running) -> Iterator[Listener]:
    running.await_live(60)
    with Listener(running) as listener:
        yield listener


def _behind(running: Running, endpoint: str) -> bool:
    rows = (running.status().get("chain") or {}).get("nodes", [])
    return any(row["endpoint"] == endpoint and "behind" in row["reason"] for row in rows)


def _watch(stage: Stage, running: Running, still: Node, *, seconds: float) -> None:
    """Nothing flaps: no connection to the node that stands still, no market that blinks."""
    connects = running.log.count(f"connected to {still.ws}")
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > until, within_s=seconds + 5, every_s=1.0, what="time")
    assert running.log.count(f"connected to {still.ws}") == connects
    assert running.live()
    stage.note("healed", f"no flapping back within {seconds:.0f} s")
