"""The processes: what each costs now and in the last minute, and how quick it is. Pure."""

from collector.client.performance import Process, Shard
from collector.tui.numbers import megabytes, micros, sparkline
from collector.tui.spans import Line, Span, clip, fit, printable, section
from collector.tui.view_model import Picture

_NAME = 11
_BLOCK = 11
"""Columns for a shard's newest block, on a screen that is not narrow."""


def process_lines(picture: Picture, width: int, height: int) -> list[Line]:
    """Lay out a title and a line for each process; shards first, what does not fit is counted."""
    block = _BLOCK if width >= 96 else 0
    # What is left beside the numbers goes to three sparklines.
    spark = max(4, min(24, (width - _NAME - 46 - block) // 3))
    title = (
        Span(clip("PROCESS", _NAME), "title"),
        Span(f"{'CPU %':>6} {'':{spark}} {'memory':>7} {'':{spark}} {'p99':>7} {'':{spark}}"),
        Span(f" {'markets':>7}{'block' if block else '':>{block}} {'restarts':>8}"),
    )
    lines = [section(title, width)]
    shards = {shard.process: shard for shard in picture.summary.shards}
    ordered = sorted(picture.summary.processes, key=lambda row: _place(row, shards.get(row.name)))
    room = height - 1
    shown = ordered if len(ordered) <= room else ordered[: room - 1]
    lines += [fit(_line(row, shards.get(row.name), picture, spark, block), width) for row in shown]
    if len(shown) < len(ordered):
        lines.append(fit((Span(f"and {len(ordered) - len(shown)} more", "label"),), width))
    return lines + [fit((), width)] * (height - len(lines))


def _place(row: Process, shard: Shard | None) -> tuple[int, int, str]:
    """Order shards by number, then the others by name."""
    return (1, 0, row.name) if shard is None else (0, shard.shard, "")


def _line(
    row: Process,
    shard: Shard | None,
    picture: Picture,
    spark: int,
    block: int,
) -> Line:
    uses = [point.processes.get(row.name) for point in picture.points[-spark:]]
    cpu = [use.cpu_percent if use else 0.0 for use in uses]
    memory = [use.rss_mb if use else 0.0 for use in uses]
    spans = [
        Span(clip(printable(row.name), _NAME)),
        Span(f"{row.cpu_percent:>6.1f} ", "warn" if row.cpu_percent >= 90 else ""),
        Span(sparkline(cpu, spark, top=100.0), "spark"),
        Span(f" {megabytes(row.rss_mb)} "),
        # What does not grow stays at half height; what doubled fills it.
        Span(sparkline(memory, spark, top=2 * min(filter(None, memory), default=0.0)), "spark"),
    ]
    if shard is None:
        spans.append(Span(" " * (spark + 17 + block)))
    else:
        waits = _latencies(picture, shard.shard, spark)
        spans += [
            Span(f" {micros(waits[-1]) if waits and waits[-1] else '-':>7} "),
            Span(sparkline(waits, spark), "spark"),
            Span(f" {shard.markets:>7,}"),
            Span(f"{shard.blocks:>{block},}" if block else ""),
        ]
    restarts = row.restarts
    return (*spans, Span(f" {restarts:>8,}", "warn" if restarts else "label"))


def _latencies(picture: Picture, shard: int, number: int) -> list[float]:
    """Return a shard's p99 of the last seconds; one in which it sent nothing counts as 0."""
    found = [point.shards.get(str(shard)) for point in picture.points[-number:]]
    return [latency.p99 if latency else 0.0 for latency in found]
