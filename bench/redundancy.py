"""
What a second node costs: the CPU of a shard that reads one node, and of one that reads two.

``python -m bench.redundancy --seconds 60``. Two simulators with one seed and one clock are two
nodes of one chain. All collectors run at the same time on the same traffic, so a busy machine
disturbs them alike.
"""

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Final

import click
import psutil

from tests.simulator.client import Simulator, simulator
from tests.system.running import Running, collector

SETUPS: Final = {
    "one node": "",
    "two nodes, compared every 8 blocks": "redundancy = 2\n",
    "two nodes, every block compared": "redundancy = 2\n[limits]\ncompare_every = 1\n",
}


def _config(folder: Path, nodes: tuple[Simulator, Simulator], extra: str) -> Path:
    options, _, limits = extra.partition("[limits]")
    lines = [options, "[network]"]
    for name in ("chain_ws", "chain_stream", "chain_grpc", "rpc"):
        both = ", ".join(f'"{node.endpoints[name]}"' for node in nodes)
        lines.append(f"{name} = [{both}]")
    path = folder / "collector.toml"
    path.write_text("\n".join([*lines, "[limits]", limits, ""]))
    return path


def _cpu_s(running: Running, name: str) -> float:
    times = psutil.Process(running.pid(name)).cpu_times()
    return float(times.user + times.system)


@click.command()
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--markets", default=280, show_default=True)
@click.option("--source", default="chain-ws", show_default=True)
@click.option("--touched", default="0.3", show_default=True)
@click.option("--block-time", default=0.65, show_default=True)
def main(seconds: float, markets: int, source: str, touched: str, block_time: float) -> None:
    """Measure, and print a table."""
    clock = int(time.time() * 1_000) + 3_000
    given = ("--markets", str(markets), "--touched", touched, "--block-time", str(block_time))
    with contextlib.ExitStack() as stack:
        nodes = tuple(
            stack.enter_context(simulator(*given, "--clock", str(clock))) for _ in range(2)
        )
        cells: dict[str, Running] = {}
        for name, extra in SETUPS.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            config = _config(folder, (nodes[0], nodes[1]), extra)
            options = ("--config", str(config), "--shards", "1", "--source", source)
            cells[name] = stack.enter_context(collector(folder, *options))
        for cell in cells.values():
            cell.await_live(120)
        time.sleep(5.0)
        before = {name: _measure(cell) for name, cell in cells.items()}
        time.sleep(seconds)
        after = {name: _measure(cell) for name, cell in cells.items()}
    click.echo(f"{source}, {markets} markets, {seconds:.0f} s, load {psutil.getloadavg()[0]:.1f}")
    one = 0.0
    for name in cells:
        blocks = after[name][0] - before[name][0]
        shard, aggregator = (
            1e3 * (now - then) / blocks
            for now, then in zip(after[name][1:], before[name][1:], strict=True)
        )
        one = one or shard
        click.echo(
            f"{name:<38} {blocks} blocks: shard {shard:6.2f} ms a block ({shard / one:.2f}), "
            f"aggregator {aggregator:5.2f} ms"
        )


def _measure(cell: Running) -> tuple[int, float, float]:
    height = int(cell.status()["blocks"]["head"])
    return height, _cpu_s(cell, "shard 0"), _cpu_s(cell, "aggregator")


if __name__ == "__main__":
    main()
