"""Gain and cost of real time, on the real node of 280 markets: row 12, both in turn."""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from bench.budget import Line, Scale, budget, lines_of
from bench.rig import Listener
from bench.rows_devnet import node
from bench.rows_load import latency_ms
from tests.system.running import Devnet, collector

_WHAT: Final = "receive to aggregator, devnet of 280 markets, 2 shards, real time"
_QUANTILES: Final = {0.5: "p50", 0.99: "p99", 0.999: "p999"}


class Found(msgspec.Struct):
    """One collector's figures, without its start."""

    latency_ms: dict[float, float]
    """By quantile."""
    span_ms: float
    """The longest time from a block's first receipt to its last frame."""
    told_ms: float
    """The same as the collector itself tells it (``block_span``), its start included."""
    block_s: float
    """The node's own block time meanwhile."""


def measure(found: Devnet, processes: str, seconds: float) -> Found:
    """Run a fresh collector on this node for a while, with these settings of ``[processes]``."""
    with tempfile.TemporaryDirectory(prefix="b-") as name:
        folder = Path(name)
        config = str(found.config(folder, extra=f"[processes]\n{processes}\n"))
        with (
            collector(folder, "--config", config, "--shards", "2") as running,
            Listener(running.publish, times="times") as listener,
        ):
            running.await_live(90.0)
            # Snapshots and first blocks are its start.
            time.sleep(seconds / 5)
            listener.mark()
            time.sleep(seconds)
            heard = listener.mark()
            told_us = running.status()["latency_us"]["block_span"]["max"]
    at = latency_ms(heard["latency"])
    blocks = sorted(heard["blocks"])
    spans = [newest - oldest for _, oldest, newest, _ in blocks]
    (first, began, *_), (last, ended, *_) = blocks[0], blocks[-1]
    return Found(
        {q: at(q) for q in _QUANTILES},
        max(spans) / 1e6,
        told_us / 1e3,
        (ended - began) / 1e9 / max(1, last - first),
    )


@budget("12")
def realtime(scale: Scale) -> list[Line]:
    """The tail of a frame's way, and the node's pace."""
    lines = lines_of(
        "12",
        {
            "p50": (f"{_WHAT}: p50", 0.25, "ms"),
            "p99": ("the same: p99", 0.7, "ms"),
            "p999": ("the same: p99.9", 1.5, "ms"),
            "pace": ("the node's block time, real time / normal priority", 1.02, ""),
        },
    )
    beside: list[Found] = []
    with node(scale) as found:
        for run in range(scale.runs):
            # The node's blocks grow with its age, so each priority is first in every other run.
            order = ("normal", "realtime") if run % 2 == 0 else ("realtime", "normal")
            both = {
                p: measure(found, f'priority = "{p}"', scale.seconds * scale.size(10, 1))
                for p in order
            }
            normal, ours = both["normal"], both["realtime"]
            beside.append(normal)
            for q, name in _QUANTILES.items():
                lines[name].values.append(ours.latency_ms[q])
            lines["pace"].values.append(ours.block_s / normal.block_s)
            times = f"{normal.block_s:.3f} and in real time {ours.block_s:.3f}"
            print(f"# block time at normal priority {times} s, {order[0]} first", flush=True)
            lines["pace"].note = (
                f"longest block span {ours.span_ms:.0f} / {normal.span_ms:.0f} ms, "
                f"with the start {ours.told_ms:.0f} / {normal.told_ms:.0f}"
            )
    for q, name in _QUANTILES.items():
        middle = statistics.median(one.latency_ms[q] for one in beside)
        lines[name].note = f"at normal priority {middle:.2f}"
    lines["p50"].note += f"; load {os.getloadavg()[0]:.0f}"
    return list(lines.values())


@budget("14")
def spinning(scale: Scale) -> list[Line]:
    """The same for processes that never sleep; the collector refuses where cores are missing."""
    lines = {
        0.5: Line("14", "the same, spinning / real time: p50", [], 1.0),
        0.99: Line("14", "the same: p99", [], 1.0),
    }
    seconds = scale.seconds * scale.size(10, 1)
    with node(scale) as found:
        for _ in range(scale.runs):
            spun = measure(found, "spin = true", seconds)
            woken = measure(found, 'priority = "realtime"', seconds)
            for q, line in lines.items():
                line.values.append(spun.latency_ms[q] / woken.latency_ms[q])
                line.note = f"{spun.latency_ms[q]:.2f} / {woken.latency_ms[q]:.2f} ms"
    return list(lines.values())
