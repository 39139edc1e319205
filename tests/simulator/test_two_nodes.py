"""
Two nodes for one collector (``redundancy = 2``): one of them is stalled, stopped, behind, or lies.

Two simulators with one seed and one clock are two nodes of one chain. What a reader receives is
compared with the record of the node that tells the truth. Each of the two tests is run on one of the
sources, and nightly on both.
"""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from collector import Book, Gap, Subscriber, Trades
from collector.archive.reading.tables import read
from shards.protocol.events import Divergence
from shards.protocol.settings import Limits
from tests.simulator import faults
from tests.simulator.client import Simulator, simulator
from tests.system.reader import Reader
from tests.system.recorders import record, sealed_through
from tests.system.running import Running, at_best, collector, eventually, run

BLOCK_S: Final = 0.3
EVERY: Final = 4
"""Every how many blocks the copies are compared."""


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[Simulator, Simulator]]:
    """Run two nodes of one chain."""
    clock = f"--clock={int(time.time() * 1_000) + 2_000}"
    given = ("--markets", "6", "--block-time", str(BLOCK_S), "--touched", "all", "--matches", "40")
    with simulator(*given, clock) as one, simulator(*given, clock) as other:
        yield one, other


def config(folder: Path, nodes: tuple[Simulator, Simulator]) -> Path:
    """Write a configuration that names both nodes for everything."""
    lines = ["redundancy = 2", "[network]"]
    for name in ("chain_ws", "chain_stream", "chain_grpc", "rpc"):
        both = ", ".join(f'"{node.endpoints[name]}"' for node in nodes)
        lines.append(f"{name} = [{both}]")
    path = folder / "collector.toml"
    path.write_text(
        "\n".join([*lines, "[limits]", f"compare_every = {EVERY}", "distrust_s = 1", ""])
    )
    return path


def reading(publish: str) -> Reader:
    """Return a reader of what the nodes may differ in."""
    return Reader(Subscriber(publish, channels=("book", "trades", "gap", "divergence")))


Facts = list[tuple[tuple[str, int], Any]]
"""What happened, by market id and height."""


def check(reader: Reader, truth: Simulator, first: int, last: int) -> None:
    """Compare every fact between two heights with the record of a node, once it was heard."""
    trades: dict[tuple[str, int], Any] = {}
    changes: dict[tuple[str, int], Any] = {}
    for height in range(first, last + 1):
        block = truth.block(height)
        for market_id, trade in block.trades:
            trades.setdefault((market_id, height), []).append(trade)
        for update in block.updates:
            changes[update.market_id, height] = (update.sequence, update.bids, update.asks)

    def missing() -> set[tuple[str, int]]:
        heard = (dict(_trades(reader, first, last)), dict(_changes(reader, first, last)))
        return (trades.keys() - heard[0].keys()) | (changes.keys() - heard[1].keys())

    eventually(lambda: not missing(), within_s=30, what=lambda: f"every fact: {missing()}")
    for heard, due in (
        (_trades(reader, first, last), trades),
        (_changes(reader, first, last), changes),
    ):
        assert len(heard) == len(dict(heard)), "a fact came twice"
        assert dict(heard) == due


def _trades(reader: Reader, first: int, last: int) -> Facts:
    events = [event for event in reader.of(Trades) if first <= event.height <= last]
    return [((event.market_id, event.height), event.trades) for event in events]


def _changes(reader: Reader, first: int, last: int) -> Facts:
    events = [event for event in reader.of(Book) if first <= event.height <= last]
    return [
        ((event.market_id, event.height), (event.sequence, event.bids, event.asks))
        for event in events
        if not event.is_snapshot
    ]


def paths(running: Running) -> list[dict[str, Any]]:
    """Return what the status says of the nodes."""
    return list(running.status()["paths"])


def connects(running: Running) -> int:
    """Return how often the shard has connected to a node."""
    return int(running.status()["shards"][0]["connects"])


def await_both(running: Running) -> None:
    """Wait until both nodes serve every market, at the head."""

    def looked() -> bool:
        found = paths(running)
        heights = [path["height"] for path in found]
        served = all(path["markets"] for path in found) and len(found) == 2
        return served and max(heights) - min(heights) < 3

    eventually(
        looked, within_s=40, what=lambda: f"both nodes are read: {paths(running)}\n{running.log}"
    )


@contextlib.contextmanager
def running(
    folder: Path, source: str
) -> Iterator[tuple[tuple[Simulator, Simulator], Running, Reader]]:
    """Run two nodes, a collector of both and a reader."""
    with two_nodes() as nodes:
        options = ("--config", str(config(folder, nodes)), "--source", source)
        with collector(folder, *options) as started:
            started.await_live(60)
            await_both(started)
            with reading(started.publish) as reader:
                reader.reach(nodes[0].head() + 2)
                yield nodes, started, reader


@pytest.mark.parametrize(
    "source", ["chain-ws", pytest.param("chain-grpc", marks=pytest.mark.nightly)]
)
def test_whatever_happens_to_one_node_costs_nothing(tmp_path: Path, source: str) -> None:
    with running(tmp_path, source) as ((one, other), started, reader):
        first = reader.highest + 1

        def stall(node: Simulator) -> None:
            """It answers nothing, and its sockets stay open."""
            node.process.send_signal(signal.SIGSTOP)
            try:
                reader.reach(reader.highest + 10)
            finally:
                node.process.send_signal(signal.SIGCONT)

        def fall_behind() -> None:
            one.inject(faults.Late(behind=20))
            reader.reach(reader.highest + 24)
            one.heal()

        def stop() -> None:
            other.inject(faults.Stop(for_s=2.0))
            reader.reach(reader.highest + 12)

        for fault in (lambda: stall(one), lambda: stall(other), fall_behind, stop):
            # With one node, a silence is not even noticed before this.
            at_best(lambda: _silence_s(started, reader, fault), below=Limits().mute_floor_s)  # noqa: B023
        check(reader, other, first, reader.highest - 1)
        assert not reader.of(Gap)
        assert not reader.of(Divergence)
        status = started.status()
    assert status["blocks"]["missing"] == status["blocks"]["replayed"] == 0, status["blocks"]


def _silence_s(started: Running, reader: Reader, fault: Callable[[], None]) -> float:
    """Return the longest silence while something happens to one node."""
    began = time.monotonic()
    fault()
    silence_s = reader.longest_silence_s(began)
    await_both(started)
    return silence_s


LIES: Final[dict[str, tuple[Callable[[], faults.Fault], set[str]]]] = {
    "trades": (lambda: faults.Lie(what="trades"), {"trades"}),
    "updates": (lambda: faults.Lie(what="updates"), {"book"}),
    "leaves out": (lambda: faults.Gap(what="trades", blocks=0), {"trades"}),
    "time": (lambda: faults.ClockSkew(ms=50), {"time"}),
}


def await_left(running: Running, connects_before: int) -> None:
    """Wait until a node was left and connected again."""
    eventually(
        lambda: connects(running) > connects_before,
        within_s=30,
        what=lambda: f"the liar is left:\n{running.log}",
    )


def await_worse(running: Running, endpoint: str, lies: int) -> None:
    """Wait until the status names a node the worse one, for so many lies or more."""
    eventually(
        lambda: is_worse(paths(running), endpoint, lies),
        within_s=30,
        what=lambda: f"the liar is named: {paths(running)}",
    )


def is_worse(found: list[dict[str, Any]], endpoint: str, lies: int) -> bool:
    """Return whether the status names a node the worse one, for so many lies or more."""
    worse = [path for path in found if path["worse"]]
    return [path["endpoint"] for path in worse] == [endpoint] and (
        worse[0]["contradicted"] >= lies and "the chain's record contradicts" in worse[0]["reason"]
    )


@contextlib.contextmanager
def recording(archive: Path, publish: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Record for the length of the block; whatever happens, the recorder ends with it."""
    with record(archive, publish, span=10) as recorder:
        try:
            yield recorder
        finally:
            recorder.terminate()


def reported(
    liar: Simulator, lie: faults.Fault, reader: Reader, started: Running
) -> tuple[Divergence, bool]:
    """Let a node lie until that is reported; return the report, and whether it came in time."""
    told = len(reader.of(Divergence))
    at = liar.inject(lie)
    eventually(
        lambda: reader.of(Divergence)[told:],
        within_s=30,
        what=lambda: f"{paths(started)}\n{started.log}",
    )
    liar.heal()
    event: Divergence = reader.of(Divergence)[told]
    assert at < event.height
    return event, event.height <= at + EVERY


@pytest.mark.parametrize(
    "source", ["chain-grpc", pytest.param("chain-ws", marks=pytest.mark.nightly)]
)
def test_each_lie_is_reported_within_k_blocks_and_the_liar_is_named(
    tmp_path: Path, source: str
) -> None:
    archive = tmp_path / "archive"
    with (
        running(tmp_path, source) as ((one, _), started, reader),
        recording(archive, started.publish),
    ):
        liar = one.endpoints["chain_ws" if source == "chain-ws" else "chain_stream"]
        eventually(lambda: sealed_through(archive) > 0, within_s=60)
        for number, (lie, differs) in enumerate(LIES.values(), 1):
            # On a busy machine a node may be too late for one comparison, but not each time.
            for _ in range(3):
                before = connects(started)
                event, is_in_time = reported(one, lie(), reader, started)
                assert set(event.differs) == differs
                assert event.wrong == [liar]
                await_left(started, before)
                await_both(started)
                await_worse(started, liar, number)
                if is_in_time:
                    break
            assert is_in_time, "reported too late, three times"
        entries = started.journal()
        said = [entry for entry in entries if entry["kind"] == "divergence"]
        assert said
        assert all(liar in entry["reason"] for entry in said)
        shown = run("status", "--connect", started.publish).stdout
        assert f"node      {liar}" in shown
        assert "WORSE" in shown
        last = reader.of(Divergence)[-1].height
        eventually(lambda: sealed_through(archive) >= last, within_s=60)
    kept = read(archive, "divergence").arrow
    assert set(kept["height"].to_pylist()) == {event.height for event in reader.of(Divergence)}


def test_too_few_nodes_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "collector.toml"
    path.write_text(
        'redundancy = 2\n[network]\nchain_ws = ["ws://127.0.0.1:1"]\nrpc = ["http://127.0.0.1:1"]\n'
        'chain_grpc = ["127.0.0.1:1"]\n'
    )
    ended = run("start", "--config", str(path))
    assert ended.returncode == 3
    assert "redundancy = 2 needs 2 nodes, and network.chain_ws names 1" in ended.stderr
    ended = run("start", "--config", str(path), "--source", "indexer-grpc")
    assert ended.returncode == 3
    assert "redundancy is for the source chain-ws or chain-grpc" in ended.stderr
