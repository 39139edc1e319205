"""Budgets under the simulator's load: 1, 2, 4, 5b, 8 and 9."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final

import msgspec

from bench import results, sides
from bench.budget import Line, Scale, budget
from bench.rig import Feeder
from bench.sides import Side, Stretch, median
from bench.use import memory
from shards.protocol.histograms import Histogram

_WHOLE: Final = "the same, all our processes / theirs"
Start = Callable[[Feeder], AbstractContextManager[Side]]


def _pair(
    scale: Scale, shard: Line, whole: Line, ours: Start, theirs: Start, sizes: tuple[int, int]
) -> list[Line]:
    """
    CPU of our whole shard, and of all our processes, over that of theirs, per update of equal blocks.

    Both get as many as they can process: at lower rates both pay for wake-ups, which depend more on
    the machine than on the program.
    """
    blocks = [scale.size(size, 4) for size in sizes]
    with Feeder(markets=20) as feeder:
        for _ in range(scale.runs):
            with ours(feeder) as side:
                _, mine = side.flooded(blocks[0])
            with theirs(feeder) as side:
                other = max(0.001, sum(side.flooded(blocks[1])[1].values()))
            shard.values.append(mine["shard 0"] / other)
            whole.values.append((sum(mine.values()) - mine["listener"]) / other)
            shard.note = (
                f"shard {mine['shard 0']:.1f}, aggregator {mine['aggregator']:.1f}, "
                f"theirs {other:.1f} µs"
            )
    return [shard, whole]


@budget("1")
def chain_ws(scale: Scale) -> list[Line]:
    """chain-ws beside injective-py, an update a message on both sides."""
    name = "CPU per update, shard on chain-ws / injective-py's callback"
    return _pair(
        scale,
        Line("1", name, [], round(1 / 12, 4)),
        Line("1", _WHOLE, [], round(1 / 12, 4)),
        sides.ours,
        lambda feeder: sides.peer(feeder, "chain_stream", per_market=True),
        (3_000, 400),
    )


@budget("2")
def chain_grpc(scale: Scale) -> list[Line]:
    """chain-grpc beside injective-py, twenty updates a message on both sides."""
    return _pair(
        scale,
        Line("2", "shard on chain-grpc / injective-py's, 20 updates a block", [], round(1 / 6, 4)),
        Line("2", _WHOLE, [], round(1 / 6, 4)),
        lambda feeder: sides.ours(feeder, source="chain-grpc"),
        lambda feeder: sides.peer(feeder, "chain_stream"),
        (1_000, 400),
    )


@budget("4")
def saturation(scale: Scale) -> list[Line]:
    """End to end, through to a subscriber, as fast as it goes."""
    blocks = scale.size(2_000, 10)
    ratio = Line("4", "updates/s at saturation, 1 shard / the floor", [], 0.6, at_least=True)
    peer = Line("4", "the same / websockets + json", [], 1.5, at_least=True)
    rate = Line("4", "updates/s at saturation, 1 shard", [], 40_000, at_least=True)
    batched = []
    with Feeder(markets=20) as feeder:
        for _ in range(scale.runs):
            with sides.ours(feeder) as side:
                mine = side.flood(blocks)
            with sides.floor(feeder) as side:
                floor = side.flood(blocks)
            with sides.floor(feeder, batched=True) as side:
                batched.append(mine / side.flood(blocks))
            with sides.peer(feeder, "websockets") as side:
                peer.values.append(mine / side.flood(scale.size(800, 10)))
            ratio.values.append(mine / floor)
            rate.values.append(mine)
    ratio.note = (
        f"the floor sends a message per update; over a batching floor {median(batched):.2f}"
    )
    return [ratio, peer, rate]


def block_times_ms(stretch: Stretch) -> list[float]:
    """First byte sent of each block to its last frame published, or taken by the floor's sink."""
    last: dict[int, int] = {}
    if "blocks" in stretch.report:
        last = {height: newest for height, _, newest, _ in stretch.report["blocks"]}
    for height, _, at in stretch.report["seen"]:
        if "blocks" not in stretch.report:
            last[height] = max(at, last.get(height, 0))
    return sorted((at - stretch.marks[h]) / 1e6 for h, at in last.items() if h in stretch.marks)


@budget("5b")
def whole_blocks(scale: Scale) -> list[Line]:
    """Every market touched in every block, as after a move of the whole market."""
    return _whole_blocks(scale, "5b", realtime=False)


@budget("13")
def whole_blocks_in_real_time(scale: Scale) -> list[Line]:
    """The same with our processes in real time, and the floor's too."""
    return _whole_blocks(scale, "13", realtime=True)


def _whole_blocks(scale: Scale, number: str, *, realtime: bool) -> list[Line]:
    markets = scale.size(280, 12)
    how = "real time" if realtime else "normal priority"
    p50 = Line(number, f"receive to aggregator, every market touched, {how}: p50", [], 0.7, "ms")
    p99 = Line(number, "the same: p99", [], 3.0, "ms")
    block = Line(number, "first byte of a block to its last frame published", [], 8.0, "ms")
    ratio = Line(number, f"the same / the floor, {how} too", [], 1.5 if realtime else 2.0)
    seconds = scale.seconds * scale.size(2, 6)
    priority = "realtime" if realtime else "normal"
    # Otherwise a shard in real time may take the feeder's core before it has sent to the other shard.
    with Feeder(markets=markets, goes_first=realtime) as feeder:
        for _ in range(scale.runs):
            with sides.ours(feeder, shards=2, times="times", priority=priority) as side:
                mine = side.steady(markets / 0.65, seconds)
            with sides.floor(feeder, times=True, realtime=realtime) as side:
                floor = side.steady(markets / 0.65, seconds)
            found = latency_ms(mine.report["latency"])
            p50.values.append(found(0.5))
            p99.values.append(found(0.99))
            times = block_times_ms(mine)
            block.values.append(median(times))
            block.note = f"slowest of {len(times)}: {times[-1]:.1f}"
            ratio.values.append(median(times) / median(block_times_ms(floor)))
    return [p50, p99, block, ratio]


def latency_ms(counts: Iterable[tuple[int, int]]) -> Callable[[float], float]:
    """Return the quantiles of a listener's histogram."""
    histogram = Histogram()
    histogram.counts = dict(counts)
    histogram.maximum = 1 << 62
    return lambda q: histogram.quantile(q) / 1e6


@budget("8")
def shard_memory(scale: Scale) -> list[Line]:
    """Memory of a shard under load; its growth comes from the long run (bench.growth)."""
    line = Line("8", "PSS of a shard, 280 markets on 2, 10,000 updates/s", [], 60.0, "MB")
    with Feeder(markets=scale.size(280, 12)) as feeder:
        for _ in range(scale.runs):
            with sides.ours(feeder, shards=2) as side:
                side.steady(10_000.0 / scale.size(1, 20), scale.seconds)
                shards = [pid for name, pid in side.pids().items() if name.startswith("shard")]
                line.values.append(max(memory(pid).pss for pid in shards))
    return [line, *_growth()]


def _growth() -> list[Line]:
    path = results.FOLDER / "growth.json"
    if not path.exists():
        return []
    found: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    grown = [mb for name, mb in found["growth_mb"].items() if name.startswith("shard")]
    if not grown:
        return []
    minutes = found["readings"][-1]["minute"]
    note = f"largest shard, over {minutes:.0f} minutes, {found['machine']['at']}"
    return [Line("8", "growth of a shard after ten minutes", [max(grown)], 1.0, "MB", note=note)]


@budget("9")
def many_markets(scale: Scale) -> list[Line]:
    """The cost of more markets: the same updates, spread over a hundred times as many."""
    line = Line("9", "CPU per update, 3,000 markets / 30 markets", [], 1.15)
    few, many = scale.size(30, 5), scale.size(3_000, 50)
    for _ in range(scale.runs):
        cost = []
        for markets in (many, few):
            with Feeder(markets=markets) as feeder, sides.ours(feeder) as side:
                rate = 6_000.0 / scale.size(1, 20)
                stretch = side.steady(
                    rate, scale.seconds * scale.size(2, 1), settle_s=scale.size(2, 0)
                )
                cost.append(stretch.cpu_us("shard", "aggregator", *sides.LIBRARIES))
        line.values.append(cost[0] / max(0.001, cost[1]))
        line.note = f"{cost[0]:.1f} / {cost[1]:.1f} µs"
    return [line]
