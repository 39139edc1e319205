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
_REACHED_S = 1.0, 5.0
"""From the decision to the other node, alone and beside other tests: a connection and its log line."""
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
                "seen", "connected to node B", lambda: going.ws in running.log, within_s=30
            )
            seen_s = stage.elapsed_s
            stage.await_("healed", "all live, all gaps closed", running.live, within_s=30)
            stage.await_(
                "said", "the status says that A is behind", lambda: _behind(running, still.rpc),
                within_s=30,
            )  # fmt: skip
            _watch(stage, running, still, seconds=stage.watch_s(short=8, full=600))
            assert not running.status()["halted"]
            still.heal()
            stage.note("done", "node A goes on, and catches up")
            stage.await_(
                "healed",
                "back at node A, which brings blocks at the head again",
                lambda: running.log.count(f"connected to {still.ws}") >= 2,
                within_s=40,
            )
            stage.await_("healed", "all live", running.live, within_s=30)
            status = running.status()
            assert not listener.drain().lost, listener.lost
    assert seen_s <= 2 * _MUTE_S + _REACHED_S[stage.short], seen_s
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0), status["holes"]


@drill("A2L", "the stream of one of two nodes is steadily behind, and goes on", is_short=False)
def lags(stage: Stage) -> None:
    """It brings blocks, so it is left only for the other once that was heard at the head."""
    with _two_nodes() as (late, going):
        config = _config(stage.folder, late, going)
        with (
            collector(stage.folder, "--config", str(config)) as running,
            _listening(running) as listener,
        ):
            late.inject(faults.Late(protocol="ws", behind=6))
            stage.broke("the stream of node A is 6 blocks late; its RPC is not")
            stage.await_(
                "said",
                "the status says that the stream of A is behind",
                lambda: "behind the head" in _endpoint(running, late.ws),
                within_s=60,
            )
            stage.await_(
                "seen", "connected to node B", lambda: going.ws in running.log, within_s=30
            )
            stage.await_("healed", "all live", running.live, within_s=30)
            _watch(stage, running, late, seconds=stage.watch_s(short=6, full=600))
            late.heal()
            stage.note("done", "the stream of node A is at the head again")
            stage.await_(
                "healed",
                "back at node A",
                lambda: running.log.count(f"connected to {late.ws}") >= 2,
                within_s=_RETURN_S,
            )
            status = running.await_live(30)
            assert not listener.drain().lost, listener.lost
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
            stage.await_("healed", "all live, all gaps closed", running.live, within_s=30)
            stage.await_(
                "said", "the status says that A is behind", lambda: _behind(running, still.rpc),
                within_s=30,
            )  # fmt: skip
            stage.await_(
                "said", "and so is its server of queries", lambda: _behind(running, still.grpc),
                within_s=30,
            )  # fmt: skip
            _query_alone_behind(stage, still, going)
            watched_s = stage.watch_s(short=8, full=600)
            _watch(stage, running, still, seconds=watched_s)
            still.follow(restart=watched_s > 60)
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
                lambda: running.log.count(f"connected to {still.ws}") >= 2,
                within_s=_RETURN_S,
            )
            running.await_live(30)
            status = running.await_accounted(first + 1)
            last = status["blocks"]["last"]
            assert_every_trade_once(going, listener, first, last)
            stage.note("healed", "every trade once, held against the validator's record")
            assert not listener.drain().lost, listener.lost
    assert seen_s <= 2 * 5 * _NODE_BLOCK_S + _REACHED_S[stage.short], seen_s
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0), status["holes"]


def _query_alone_behind(stage: Stage, still: FullNode, going: Devnet) -> None:
    """Stream and RPC are at the head, the first query server is not: it costs one query more."""
    folder = stage.folder / "queries"
    folder.mkdir()
    path = folder / "collector.toml"
    path.write_text(
        f'[network]\nchain_ws = ["{going.ws}"]\nrpc = ["{going.rpc}"]\n'
        f'chain_grpc = ["{still.grpc}", "{going.grpc}"]\n'
    )
    stage.note("done", "another collector starts; only its first query server is node A's")
    with collector(folder, "--config", str(path)) as running:
        stage.await_("healed", "its books are joined, all live", running.live, within_s=60)
        assert "trying again" not in running.log, running.log
        stage.note("seen", "no book waited for a second round: node B was asked at once")


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
            stage.await_("healed", "all books joined, all live", running.live, within_s=30)
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
    rows = (running.peek().get("chain") or {}).get("nodes", [])
    return any(row["endpoint"] == endpoint and "behind" in row["reason"] for row in rows)


def _endpoint(running: Running, endpoint: str) -> str:
    """Return what the status holds against an endpoint of the stream."""
    shards = running.status().get("shards", [])
    rows = [row for shard in shards for row in shard["endpoints"]]
    return next((row["reason"] for row in rows if row["endpoint"] == endpoint), "")


def _watch(stage: Stage, running: Running, still: Node, *, seconds: float) -> None:
    """Nothing flaps: no connection to the node that stands still, no market that blinks."""
    connects = running.log.count(f"connected to {still.ws}")
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > until, within_s=seconds + 5, every_s=1.0, what="time")
    assert running.log.count(f"connected to {still.ws}") == connects
    running.await_live(30)
    stage.note("healed", f"no flapping back within {seconds:.0f} s")
