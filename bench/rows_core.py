"""Budgets of the core alone, in this process: 3 and 7."""

import time
from collections.abc import Callable

from bench import bare
from bench.budget import Line, Scale, budget
from bench.content import TS, Content

_ROUNDS = 9


def _least(run: Callable[[], float], rounds: int) -> float:
    """The quickest round says most about the code, least about the machine's other work."""
    return min(run() for _ in range(rounds))


def _receive_s(made: Content) -> float:
    pipeline = made.pipeline()
    receive, take = pipeline.receive, pipeline.take_records
    began = time.perf_counter()
    for block in made.blocks:
        for payload in block:
            receive(payload, TS)
        # As the worker does after each read of the socket.
        take()
    return time.perf_counter() - began


def _decode_s(made: Content) -> float:
    decode, payloads = bare.decode, made.payloads
    began = time.perf_counter()
    for payload in payloads:
        decode(payload)
    return time.perf_counter() - began


@budget("3")
def pipeline_over_decode(scale: Scale) -> list[Line]:
    """All that a shard's core does, beside bare msgspec on the same payloads."""
    made = Content(markets=20, blocks=scale.size(64, 4), levels=16)
    line = Line("3", "pipeline.receive / bare msgspec decode, 16 levels", [], 3.0)
    for _ in range(scale.runs):
        ours, floor = 1e9, 1e9
        for _ in range(scale.size(_ROUNDS, 1)):
            ours, floor = min(ours, _receive_s(made)), min(floor, _decode_s(made))
        line.values.append(ours / floor)
        line.note = f"{ours * 1e6 / made.updates:.1f} / {floor * 1e6 / made.updates:.1f} µs"
    return [line]


@budget("7")
def empty_over_one_update(scale: Scale) -> list[Line]:
    """A message that says that nothing happened, beside one with one update."""
    blocks = scale.size(64, 4)
    full = Content(markets=20, blocks=blocks, levels=16)
    empty = Content(markets=20, blocks=blocks, touched=0.0)
    line = Line("7", "an empty block message / a one-update message", [], 0.25)
    for _ in range(scale.runs):
        rounds = scale.size(_ROUNDS, 1)
        nothing, update = (
            _least(lambda: _receive_s(empty), rounds),
            _least(lambda: _receive_s(full), rounds),
        )
        line.values.append((nothing / len(empty.payloads)) / (update / len(full.payloads)))
        line.note = f"{nothing * 1e6 / len(empty.payloads):.2f} µs a message"
    return [line]
