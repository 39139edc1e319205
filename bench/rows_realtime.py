"""What real time buys and takes, on the real node of 280 markets: row 12, both priorities in turn."""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.budget import Line, Scale, budget, lines_of
from bench.rows_devnet import node
from tests.system.running import Devnet, collector

_WHAT: Final = "receive to aggregator, devnet of 280 markets, 2 shards, real time"
_QUANTILES: Final = ("p50", "p99", "p999")


class Found(msgspec.Struct):
    """One collector's figures."""

    latency_us: dict[str, float]
    span_ms: float
    """The longest time from a block's first receipt to its last frame."""
    block_s: float
    """The node's own block time meanwhile."""


def measure(found: Devnet, priority: str, seconds: float) -> Found:
    """Run a fresh collector on this node for a while."""
    with tempfile.TemporaryDirectory(prefix="b-") as name:
        folder = Path(name)
        tables = f'[processes]\npriority = "{priority}"\n'
        config = str(found.config(folder, extra=tables))
        with collector(folder, "--config", config, "--shards", "2") as running:
            before = running.await_live(90.0)
            began = time.monotonic()
            time.sleep(seconds)
            after: dict[str, Any] = running.status()
            took_s = time.monotonic() - began
    blocks = after["blocks"]["head"] - before["blocks"]["head"]
    hops = after["latency_us"]
    return Found(
        hops["recv_to_aggregator"], hops["block_span"]["max"] / 1e3, took_s / max(1, blocks)
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
        for _ in range(scale.runs):
            normal = measure(found, "normal", scale.seconds * scale.size(10, 1))
            ours = measure(found, "realtime", scale.seconds * scale.size(10, 1))
            beside.append(normal)
            for name in _QUANTILES:
                lines[name].values.append(ours.latency_us[name] / 1e3)
            lines["pace"].values.append(ours.block_s / normal.block_s)
            lines["pace"].note = f"longest block span {ours.span_ms:.0f} / {normal.span_ms:.0f} ms"
    for name in _QUANTILES:
        middle = statistics.median(one.latency_us[name] for one in beside) / 1e3
        lines[name].note = f"at normal priority {middle:.2f}"
    lines["p50"].note += f"; load {os.getloadavg()[0]:.0f}"
    return list(lines.values())
