"""Several cells below each other, one line each, for `collector top`. Pure."""

from typing import Final

import msgspec

from collector.client.cells.added_proof import added_up
from collector.client.summary import Summary
from collector.tui.numbers import duration, micros
from collector.tui.spans import Line, Span, fit, printable, section
from collector.tui.summary_text import completeness, proof_text

_NAME: Final = 34


class CellGlance(msgspec.Struct, frozen=True):
    """One cell as it stands."""

    endpoint: str
    summary: Summary | None
    """Its last answer; None before the first."""
    silent_s: float | None
    """For how long it has not answered; None if it answers."""


def cell_lines(cells: tuple[CellGlance, ...], chosen: int, width: int) -> list[Line]:
    """Lay out a title, a line for each cell, and the proof over parts; nothing for one cell."""
    if len(cells) < 2:
        return []
    answers = sum(cell.silent_s is None and cell.summary is not None for cell in cells)
    title = section(
        (Span(f"Cells: {answers} of {len(cells)} answer"),),
        width,
        (Span("c: the next one below ", "label"),),
    )
    lines = [title, *(_cell(cell, place == chosen, width) for place, cell in enumerate(cells))]
    proofs = (cell.summary.trade_proof for cell in cells if cell.summary is not None)
    if (together := added_up(proofs)) is not None:
        lines.append(fit((Span("  over parts: ", "label"), Span(proof_text(together))), width))
    return lines


def height(cells: tuple[CellGlance, ...]) -> int:
    """Return how many lines they take at most."""
    parts = any(cell.summary is not None and cell.summary.trade_proof.part for cell in cells)
    return 0 if len(cells) < 2 else 1 + len(cells) + parts


def _cell(cell: CellGlance, is_chosen: bool, width: int) -> Line:
    name = Span(
        f"{'▸' if is_chosen else ' '} {printable(cell.endpoint):<{_NAME}} ",
        "title" if is_chosen else "",
    )
    if cell.silent_s is not None:
        return fit((name, Span(f" NO ANSWER for {duration(cell.silent_s)} ", "bad")), width)
    if cell.summary is None:
        return fit((name, Span("asking …", "label")), width)
    return fit((name, *_figures(cell.summary)), width)


def _figures(summary: Summary) -> Line:
    markets, gaps = summary.markets, summary.gaps
    is_whole = markets.live == markets.wanted > 0
    part = summary.trade_proof.part
    return (
        Span(f"{markets.live:,}/{markets.wanted:,} live", "good" if is_whole else "warn"),
        Span("  block ", "label"),
        Span(f"{summary.blocks.head:,}"),
        Span("  complete ", "label"),
        Span(completeness(summary)),
        Span("  gaps ", "label"),
        Span(f"{gaps.open:,}", "warn" if gaps.open else ""),
        Span("  p99 ", "label"),
        Span(micros(summary.hop("recv_to_aggregator").p99).strip()),
        Span(f"  part {part}" if part else ""),
        Span("  HALTED" if summary.halted else "", "bad"),
    )
