"""Plots into results/, where matplotlib is installed; without it the tables stand alone."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from bench.results import FOLDER


def _figure(rows: float = 4.0) -> Any:
    import_module("matplotlib").use("Agg")
    return import_module("matplotlib.pyplot").subplots(figsize=(9, rows), layout="constrained")


def _save(figure: Any, name: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.png", dpi=110)
    import_module("matplotlib.pyplot").close(figure)


def _possible() -> bool:
    return find_spec("matplotlib") is not None


def peers(found: Sequence[tuple[str, float, float, dict[str, float]]]) -> None:
    """Draw throughput, and CPU by process, of each peer."""
    if not _possible():
        return
    names = [name for name, *_ in found][::-1]
    figure, axes = _figure(1 + 0.45 * len(found))
    bars = axes.barh(names, [rate for _, rate, _, _ in found][::-1])
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.set(title="updates/s at saturation, 16 levels")
    axes.margins(x=0.12)
    _save(figure, "throughput-peers")
    figure, axes = _figure(1 + 0.45 * len(found))
    colours: dict[str, str] = {}
    for name, _, _, processes in found[::-1]:
        left = 0.0
        for process, cost in processes.items():
            colour = colours.setdefault(process, f"C{len(colours)}")
            axes.barh([name], [cost], left=left, color=colour)
            if cost > 2:
                axes.text(left + cost / 2, name, process, ha="center", va="center", size=6)
            left += cost
    axes.set(title="CPU per update by process, µs")
    _save(figure, "cpu-by-process")


def scale(rows: Sequence[tuple[int, float, float, float]]) -> None:
    """Draw CPU per update, and the latency of a block that changes all, against markets."""
    if not _possible():
        return
    figure, axes = _figure()
    markets = [row[0] for row in rows]
    axes.plot(markets, [row[1] for row in rows], marker="o", label="CPU an update, µs")
    axes.plot(markets, [row[2] for row in rows], marker="o", label="latency p50, ms")
    axes.plot(markets, [row[3] for row in rows], marker="o", label="latency p99, ms")
    axes.set(title="one shard, every market changed", xlabel="markets", xscale="log", yscale="log")
    axes.legend()
    _save(figure, "scale")
