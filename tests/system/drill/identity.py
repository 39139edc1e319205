"""A1: another chain under the same address; an endpoint of another network in the list."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from collector.client.received import ChainReplaced
from tests.simulator import faults
from tests.simulator.client import simulator
from tests.system.drill.reading import agrees, agrees_now
from tests.system.drill.registry import Stage, drill
from tests.system.listening import Listener, assert_books_agree, assert_every_trade_once
from tests.system.running import Devnet, Running, collector, devnet, eventually


@drill("A1", "a chain restarted under the same address")
def begun_anew(stage: Stage) -> None:
    """The collector and its readers are informed; books are the new chain's; nothing is joined."""
    (_on_the_simulator if stage.short else _on_the_node)(stage)


def _on_the_simulator(stage: Stage) -> None:
    with (
        simulator("--markets", "6", "--block-time", "0.3", "--touched", "all") as exchange,
        _collecting(stage, exchange.config(stage.folder)) as (running, listener),
    ):
        old_head = exchange.head()
        exchange.begin_again(2, away_s=0.5)
        stage.broke(f"the chain ended at block {old_head} and restarted on the same ports")
        status = _told(stage, running, listener)
        market = running.markets()[0]
        eventually(
            lambda: agrees(listener, exchange, market),
            within_s=30,
            what="a book that is the new chain's",
        )
        stage.note("healed", "the reader's book is the new chain's")
    _assert_new(status, old_head)


@drill("A1I", "the same at an indexer, which names no chain")
def an_indexer_begun_anew(stage: Stage) -> None:
    """What it lists shows it: readers are informed, and no trade of the two chains is joined."""
    with simulator("--markets", "6", "--block-time", "0.3", "--touched", "all") as exchange:
        path = exchange.config(stage.folder, extra=f'indexer = ["{exchange.indexer}"]\n')
        # Without an RPC, which would show the new chain by its blocks.
        path.write_text(
            "".join(f"{line}\n" for line in path.read_text().splitlines() if line[:3] != "rpc")
        )
        with _collecting(stage, path, "--source", "indexer-grpc") as (running, listener):
            since = exchange.head()
            eventually(lambda: listener.drain().trades(since, 10**9), within_s=60, what="a trade")
            exchange.begin_again(2, away_s=0.5)
            stage.broke("the indexer stopped and came back with another chain, from height 1")
            status = _told(stage, running, listener)
            market, since = running.markets()[0], exchange.head()
            eventually(
                lambda: agrees_now(listener, exchange, market, after=since),
                within_s=60,
                what="a book that is the new chain's",
            )
            stage.note("healed", "the reader's book is the new chain's")
    assert status["chain"]["former"], status["chain"]
    assert status["gaps"]["open"] == 0, status["gaps"]


def _on_the_node(stage: Stage) -> None:
    with contextlib.ExitStack() as stack:
        first = contextlib.ExitStack()
        stack.enter_context(first)
        node = first.enter_context(devnet("--block-time", "0.5", "--seed", "1"))
        ports = _ports(node)
        running, listener = stack.enter_context(
            _collecting(stage, node.config(stage.folder), "--shards", "2")
        )
        eventually(lambda: running.status()["blocks"]["last"] > 20, within_s=60, what="20 blocks")
        old_head = running.status()["blocks"]["last"]
        first.close()
        stage.broke(f"devnet of seed 1 stopped at block {old_head}")
        again = stack.enter_context(devnet("--block-time", "0.5", "--seed", "2", *ports))
        stage.note("done", "devnet of seed 2 runs on the same ports, from height 1")
        status = _told(stage, running, listener)
        since = status["blocks"]["first"]
        eventually(
            lambda: running.status()["blocks"]["last"] > since + 10, within_s=30, what="ten blocks"
        )
        assert_every_trade_once(again, listener, since + 3, running.status()["blocks"]["last"])
        stage.note("healed", "every trade of the new chain once, held against its record")
        assert_books_agree(again, running, listener)
        stage.note("healed", "every book equals the new chain's")
        status = running.status()
    _assert_new(status, old_head)


@contextlib.contextmanager
def _collecting(stage: Stage, config: Path, *options: str) -> Iterator[tuple[Running, Listener]]:
    with collector(stage.folder, "--config", str(config), *options) as running:
        running.await_live(60)
        with Listener(running) as listener:
            yield running, listener


def _ports(node: Devnet) -> list[str]:
    found = {
        "--rpc-port": urlsplit(node.rpc).port,
        "--ws-port": urlsplit(node.ws).port,
        "--grpc-port": urlsplit(f"//{node.grpc}").port,
        "--stream-port": urlsplit(f"//{node.stream}").port,
    }
    return [str(word) for option in found.items() for word in option]


def _told(stage: Stage, running: Running, listener: Listener) -> dict[str, Any]:
    """Wait until the status, the journal, the log and a reader say it, and all is live again."""
    stage.await_(
        "seen",
        "the status names the former chain's ledger",
        lambda: (running.peek().get("chain") or {}).get("former"),
        within_s=60,
    )
    stage.await_("said", "a reader is handed ChainReplaced", _replaced(listener), within_s=30)
    stage.await_(
        "said",
        "gaps of cause chain_changed are open",
        lambda: [g for g in listener.drain().gaps("open") if g.cause == "chain_changed"],
        within_s=30,
    )
    stage.await_("healed", "all markets are live, no gap is open", running.live, within_s=30)
    return running.status()


def _replaced(listener: Listener) -> Callable[[], list[ChainReplaced]]:
    return lambda: [r.event for r in listener.drain().heard if isinstance(r.event, ChainReplaced)]


def _assert_new(status: dict[str, Any], old_head: int) -> None:
    (former,) = status["chain"]["former"]
    assert former["last"] >= old_head - 1, former
    assert status["blocks"]["last"] < old_head or status["blocks"]["first"] < old_head, status
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0), status["holes"]
    assert status["gaps"]["open"] == 0, status["gaps"]


@drill("A1N", "endpoints of another network among ours")
def another_network(stage: Stage) -> None:
    """Each is refused by name, also where it is the only one that is left."""
    _another_network(stage, "chain-ws", "ws")


@drill("A1G", "the same over gRPC: the chain stream of another network")
def another_networks_grpc_stream(stage: Stage) -> None:
    """It is refused by name, and ours is read again as soon as it is there."""
    _another_network(stage, "chain-grpc", "stream")


def _another_network(stage: Stage, source: str, protocol: faults.Protocol) -> None:
    with (
        simulator("--markets", "6", "--block-time", "0.3", "--touched", "all") as ours,
        simulator(
            *("--markets", "6", "--block-time", "0.3", "--touched", "all"),
            *("--seed", "1", "--chain-id", "injective-888"),
        ) as other,
    ):
        path = stage.folder / "collector.toml"
        path.write_text(
            f'[network]\nchain_ws = ["{ours.ws}", "{other.ws}"]\nchain_grpc = ["{ours.grpc}"]\n'
            f'chain_stream = ["{ours.stream}", "{other.stream}"]\n'
            f'rpc = ["{ours.rpc}", "{other.rpc}"]\n'
        )
        with _collecting(stage, path, "--source", source) as (running, listener):
            stage.await_(
                "said",
                "the status names the network of the other RPC endpoint",
                lambda: "network injective-888" in _reason(running, other.rpc),
                within_s=30,
            )
            ours.inject(faults.Stop(protocol=protocol, for_s=6.0))
            stage.broke(
                "our stream is away; only that of the other network, as far as ours, answers"
            )
            stage.await_(
                "seen",
                "the stream of the other network is refused by name",
                lambda: "not the chain being collected" in running.log,
                within_s=30,
            )
            stage.await_("healed", "all live, on our stream again", running.live, within_s=30)
            status = running.status()
            for market in running.markets()[:3]:
                head = ours.head()
                eventually(
                    lambda m=market, h=head: agrees(listener, ours, m, since=h),  # type: ignore[misc]
                    within_s=30,
                    what="our book",
                )
            stage.note("healed", "books are ours; nothing of the other network was published")
    assert not status["chain"]["former"]
    assert (status["completeness"], status["blocks"]["missing"]) == (1.0, 0), status["holes"]


def _reason(running: Running, endpoint: str) -> str:
    nodes = (running.peek().get("chain") or {}).get("nodes", [])
    return next((node["reason"] for node in nodes if node["endpoint"] == endpoint), "")
