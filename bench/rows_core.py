"""Budgets of the core alone, in this process: 3 and 7."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from bench import bare
from bench.budget import Line, Scale, budget
from bench.content import TS, Content

_ROUNDS = 9
Receive: TypeAlias = Callable[[list[bytes]], None]
"""Takes the payloads of one block."""
Side: TypeAlias = tuple[Content, Callable[[], Receive]]
"""Its input, and how to reset it."""


def race(sides: Mapping[str, Side], rounds: int) -> dict[str, list[float]]:
    """
    Time the sides block by block, one right after the other: seconds of each block.

    If the machine is slower for a while, all sides are slower; on a shared machine whole rounds one
    after the other are not comparable.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        ready = [(times[name], made.blocks, start()) for name, (made, start) in sides.items()]
        for n in range(len(ready[0][1])):
            for seconds, blocks, receive in ready:
                began = time.perf_counter()
                receive(blocks[n])
                seconds.append(time.perf_counter() - began)
    return times


def ratio(times: dict[str, list[float]], ours: str, theirs: str) -> float:
    """Return the median over the blocks of one side's time over the other's."""
    pairs = zip(times[ours], times[theirs], strict=True)
    return statistics.median(mine / other for mine, other in pairs)


def received(made: Content) -> Side:
    """Return the side with the complete work of a shard's core."""

    def start() -> Receive:
        pipeline = made.pipeline()
        receive, take = pipeline.receive, pipeline.take_records

        def block(payloads: list[bytes]) -> None:
            for payload in payloads:
                receive(payload, TS)
            # As the worker does after each read of the socket.
            take()

        return block

    return made, start


def _decoded(made: Content) -> Side:
    decode = bare.decode

    def block(payloads: list[bytes]) -> None:
        for payload in payloads:
            decode(payload)

    return made, lambda: block


@budget("3")
def pipeline_over_decode(scale: Scale) -> list[Line]:
    """All that a shard's core does, beside bare msgspec on the same payloads."""
    made = Content(markets=20, blocks=scale.size(64, 4), levels=16)
    line = Line("3", "pipeline.receive / bare msgspec decode, 16 levels", [], 3.0)
    for _ in range(scale.runs):
        sides = {"ours": received(made), "bare": _decoded(made)}
        times = race(sides, scale.size(_ROUNDS, 1))
        line.values.append(ratio(times, "ours", "bare"))
        ours, floor = (statistics.median(times[name]) * 1e6 / 20 for name in sides)
        line.note = f"{ours:.1f} / {floor:.1f} µs, medians"
    return [line]


@budget("7")
def empty_over_one_update(scale: Scale) -> list[Line]:
    """A message that says that nothing happened, beside one with one update."""
    blocks = scale.size(64, 4)
    full = Content(markets=20, blocks=blocks, levels=16)
    empty = Content(markets=20, blocks=blocks, touched=0.0)
    line = Line("7", "an empty block message / a one-update message", [], 0.25)
    for _ in range(scale.runs):
        sides = {"empty": received(empty), "full": received(full)}
        times = race(sides, scale.size(_ROUNDS, 1))
        line.values.append(ratio(times, "empty", "full"))
        line.note = f"{statistics.median(times['empty']) * 1e6 / 20:.2f} µs a message, median"
    return [line]
