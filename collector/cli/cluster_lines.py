"""A cluster's state, formatted for people."""

from typing import TYPE_CHECKING

from shards.protocol.text import printable

if TYPE_CHECKING:
    from collector.cluster.spec import CellReport, HostRow, View


def lines_of(view: "View") -> list[str]:
    """Format a cluster for people; hosts and the last words of cells are foreign text."""
    return [printable(line) for line in _lines(view)]


def _lines(view: "View") -> list[str]:
    spec = view.spec
    if spec is None:
        return ["no cells are wanted", *(_host_line(row) for row in view.hosts)]
    ready = view.ready()
    short = [f"{part} has {count}" for part, count in ready.items() if count < spec.replicas]
    state = "all complete" if view.is_whole else "; ".join(short) or "cells are moving"
    size = f"{_count(spec.parts, 'part')}, {_count(spec.replicas, 'replica')} of each"
    lines = [f"{size}: {state}"]
    if view.unplaced:
        lines.append(
            f"no place for another replica of {', '.join(view.unplaced)}: "
            "each needs a host of its own, with room"
        )
    if view.behind:
        lines.append(f"the former options are still those of the cells on {', '.join(view.behind)}")
    for row in view.hosts:
        lines.append(_host_line(row))
        lines += [f"  {_cell_line(cell)}" for cell in row.report.cells if row.is_present]
    lines += [
        f"{lost.host}: away for {lost.away_s:.0f} s; it had {_count(lost.cells, 'cell')}"
        for lost in view.lost
    ]
    return [*lines, *view.problems]


def _count(number: int, of: str) -> str:
    return f"{number} {of}{'' if number == 1 else 's'}"


def _host_line(row: "HostRow") -> str:
    cells = f"{len(row.report.cells)} of {row.room} cells"
    if not row.is_present:
        return f"{row.host}: silent for {row.silent_s:.0f} s, with {cells}"
    silent = f", silent for {row.silent_s:.0f} s" if row.silent_s > 2 else ""
    return f"{row.host}: {cells}{silent}"


def _cell_line(cell: "CellReport") -> str:
    state = f"complete for {cell.ready_s:.0f} s" if cell.is_ready else "not complete yet"
    if cell.problem:
        state = f"ended: {cell.problem}"
    return f"part {cell.part}  {cell.endpoint}  {state}"
