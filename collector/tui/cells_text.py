"""The summaries of several cells beside each other. Pure."""

from collections.abc import Callable, Sequence
from typing import Final

from collector.client.cells.added_proof import added_up
from collector.client.summary import Proof, Summary
from collector.tui.summary_text import completeness, proof_text
from shards.protocol.text import printable

_ROWS: Final[tuple[tuple[str, Callable[[Summary], str]], ...]] = (
    ("markets live", lambda one: f"{one.markets.live} of {one.markets.wanted}"),
    ("coverage", lambda one: f"{one.coverage.now:.4f}"),
    ("head", lambda one: f"{one.blocks.head}{', HALTED' if one.halted else ''}"),
    ("completeness", completeness),
    ("replayed", lambda one: str(one.blocks.replayed)),
    ("missing", lambda one: str(one.blocks.missing)),
    ("trades", lambda one: str(one.events.trades)),
    ("book updates", lambda one: str(one.events.book_updates)),
    ("gaps open", lambda one: str(one.gaps.open)),
    ("blocks proved", lambda one: _proved(one.trade_proof)),
    ("latency p99", lambda one: f"{one.hop('recv_to_aggregator').p99:.0f} µs"),
    ("version", lambda one: printable(one.version, 20)),
)


def cell_lines(cells: Sequence[tuple[str, Summary | str]]) -> list[str]:
    """Format cells as columns: each an endpoint with its summary, or why there is none."""
    columns = [[endpoint, *_column(found)] for endpoint, found in cells]
    names = ["", *(name for name, _ in _ROWS)]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        f"{name:<14}"
        + "  ".join(f"{text:>{width}}" for text, width in zip(row, widths, strict=True))
        for name, *row in zip(names, *columns, strict=True)
    ]
    together = added_up(found.trade_proof for _, found in cells if isinstance(found, Summary))
    added = [] if together is None else ["", f"over parts    {proof_text(together)}"]
    silent = [f"{at}: {printable(why)}" for at, why in cells if isinstance(why, str)]
    return [line.rstrip() for line in lines] + added + (["", *silent] if silent else [])


def _column(found: Summary | str) -> list[str]:
    if isinstance(found, str):
        return ["no answer", *([""] * (len(_ROWS) - 1))]
    return [show(found) for _, show in _ROWS]


def _proved(proof: Proof) -> str:
    if proof.part:
        return f"part {proof.part}"
    if not proof.provable:
        return "not provable"
    return f"{proof.whole}, {proof.holes} with holes" if proof.holes else str(proof.whole)
