"""Bursts, floods and an overload, by pytest-benchmark."""

import contextlib
import time
from collections.abc import Iterator
from typing import Final

import msgspec
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import results
from bench.overload import SHARE, Overload, Start, overload
from bench.rig import Bench, Feeder, live
from bench.stress.loads import Loaded, load_clock, spent

_BLOCK_S: Final = 0.65
_UPDATES: Final = 30_000
"""Updates of one flood."""
_MARKETS: Final = 1_000
"""In the overload: a block of each in 0.65 s, so that five minutes are fewer blocks than a shard
fetches again (``replay_blocks``)."""
_MINUTES: Final = 5.0


@pytest.mark.benchmark(group="burst", timer=load_clock)
def test_burst(benchmark: BenchmarkFixture, loaded: Loaded) -> None:
    """Every market changes at once, each 0.65 s: first byte to last frame."""
    _load(benchmark, loaded, blocks=1, rounds=10, pause_s=0.0 if benchmark.disabled else _BLOCK_S)


@pytest.mark.benchmark(group="flood", timer=load_clock)
def test_flood(benchmark: BenchmarkFixture, loaded: Loaded) -> None:
    """As many blocks at once as make 30,000 updates."""
    updates = 200 if benchmark.disabled else _UPDATES
    _load(benchmark, loaded, blocks=max(2, updates // loaded.size.markets), rounds=5)


def _load(
    benchmark: BenchmarkFixture, loaded: Loaded, *, blocks: int, rounds: int, pause_s: float = 0.0
) -> None:
    loaded.begin()
    conditions = results.Conditions()
    benchmark.pedantic(
        loaded.send, args=(blocks,), rounds=rounds, teardown=lambda _: time.sleep(pause_s)
    )
    found = loaded.found()
    if benchmark.stats is not None:
        found["updates_per_s"] = round(found["updates"] / benchmark.stats["median"])
    benchmark.extra_info |= found | conditions.read()
    assert not found["not_received"]
    assert not found["frames_dropped"]
    assert not found["lost_by_subscriber"]


@contextlib.contextmanager
def _collectors(markets: int, shards: int) -> Iterator[Start]:
    """Start collectors on one simulator that keeps all blocks of the overload for the replay."""
    with Feeder(markets=markets, history=20_000) as feeder:

        def start(extra: str) -> contextlib.AbstractContextManager[Bench]:
            return live(feeder, shards=shards, times="times", extra=extra)

        yield start


@pytest.mark.benchmark(group="overload", timer=load_clock)
def test_overload(benchmark: BenchmarkFixture) -> None:
    """Twice the saturating load for minutes: how long until all is whole again, without a restart."""
    tiny = benchmark.disabled

    def run() -> Overload:
        with _collectors(8 if tiny else _MARKETS, shards=1) as start:
            if tiny:
                result = overload(start, 0.02, share=0.5, every_s=0.5, flood=4)
            else:
                result = overload(start, _MINUTES, share=SHARE)
        spent(max(0.0, result.healed_s))
        return result

    conditions = results.Conditions()
    result: Overload = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info |= msgspec.to_builtins(result) | conditions.read()
    print(result.said())
    assert not result.failures(), result.said()
