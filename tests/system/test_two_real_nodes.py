"""
A validator and a full node for one collector: one of them is stopped, cut from the chain, restarted.

The simulator's form, with lies, is tests/simulator/test_two_nodes.py. Here two real nodes are
compared in every block: what they say must be the same, whatever the order of their words.
"""

import contextlib
import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from collector import Book, Gap, Trades
from shards.protocol.events import Divergence
from tests.simulator.test_two_nodes import await_both, paths, reading
from tests.system import two_cells
from tests.system.full_node import FullNode, full_node
from tests.system.running import Devnet, Running, collector, devnet

pytestmark = pytest.mark.nightly


@contextlib.contextmanager
def two_nodes(folder: Path, source: str) -> Iterator[tuple[Devnet, FullNode, Running]]:
    """Run both nodes, and a collector that reads both."""
    with devnet("--spot", "6", "--perp", "2") as validator, full_node(validator) as full:
        path = folder / "collector.toml"
        lines = ["redundancy = 2", "[network]"]
        for name, one, other in (
            ("chain_ws", validator.ws, full.ws),
            ("chain_stream", validator.stream, full.stream),
            ("chain_grpc", validator.grpc, full.grpc),
            ("rpc", validator.rpc, full.rpc),
        ):
            lines.append(f'{name} = ["{one}", "{other}"]')
        path.write_text("\n".join([*lines, "[limits]", "compare_every = 1", ""]))
        with collector(folder, "--config", str(path), "--source", source) as running:
            running.await_live(120)
            await_both(running)
            yield validator, full, running


def height_of(rpc: str) -> int:
    """Return a node's newest height."""
    with urllib.request.urlopen(f"{rpc}/status", timeout=10) as answer:
        return int(json.load(answer)["result"]["sync_info"]["latest_block_height"])


@pytest.mark.parametrize("source", ["chain-ws", "chain-grpc"])
def test_the_full_node_may_do_what_it_likes(tmp_path: Path, source: str) -> None:
    with (
        two_nodes(tmp_path, source) as (validator, full, running),
        reading(running.publish) as reader,
    ):
        chain = two_cells.Real(validator)
        reader.reach(height_of(validator.rpc) + 2)
        first, began = reader.highest + 1, time.monotonic()
        process = psutil.Process(full.pid)
        process.send_signal(signal.SIGSTOP)
        try:
            reader.reach(reader.highest + 15)
        finally:
            process.send_signal(signal.SIGCONT)
        # It may take long until it is at the head again; the test does not wait for it.
        reader.reach(reader.highest + 10)
        full.stand_still()
        reader.reach(reader.highest + 20)
        full.follow(restart=True)
        reader.reach(reader.highest + 10)
        silence_s = reader.longest_silence_s(began)
        last = reader.highest - 1
        # Another market's facts of these blocks may still be on their way.
        reader.reach(last + 4)
        trades = {(e.market_id, e.height): e.trades for e in reader.of(Trades)}
        changes = {
            (e.market_id, e.sequence): two_cells.of_sides(e.bids, e.asks)
            for e in reader.of(Book)
            if not e.is_snapshot
        }
        for height in range(first, last + 1):
            facts = chain.facts(height)
            for key, said in facts.trades.items():
                assert [two_cells.of_trade(trade) for trade in trades[key]] == said
            for change, sides in facts.changes.items():
                assert changes[change] == sides
        status = running.status()
        compared = [path["compared"] for path in paths(running)]
    assert not reader.of(Gap)
    assert not reader.of(Divergence)
    assert all(compared), compared
    assert status["blocks"]["missing"] == status["blocks"]["replayed"] == 0
    print(f"{source}: {last - first + 1} blocks, longest silence {silence_s:.2f} s, {compared}")  # noqa: T201
