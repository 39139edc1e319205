"""The top of the screen: endpoint, coverage, rates. Pure."""

from collector.client.performance import Hops
from collector.client.summary import Summary
from collector.tui.numbers import clock, duration, micros, rate, sparkline
from collector.tui.spans import Line, Span, fit, printable, spread
from collector.tui.summary_text import completeness, pace
from collector.tui.tones import MARKS
from collector.tui.view_model import Picture

HEIGHT = 5
_HOPS = (
    ("recv_to_decoded", "decode"),
    ("decoded_to_pushed", "push"),
    ("push_to_aggregator", "to aggregator"),
    ("aggregator_to_published", "publish"),
)


def headline(picture: Picture, width: int, *, paused: bool) -> list[Line]:
    """Lay out the headline, always HEIGHT lines."""
    lines = [_title(picture, width, paused=paused)]
    if picture.answered:
        summary = picture.summary
        lines += [
            fit(_coverage(picture, width), width),
            fit(_blocks(summary), width),
            fit(_flow(picture) + _budget(summary.latency_us, width), width),
            fit(_states(summary.markets.states), width),
        ]
    elif picture.silent_since is not None:
        hint = "Is a collector running ('collector start')? Does --connect name its endpoint?"
        lines.append(fit((Span(printable(picture.silent_why) or hint),), width))
    return lines + [fit((), width)] * (HEIGHT - len(lines))


def _title(picture: Picture, width: int, *, paused: bool) -> Line:
    """The endpoint; prominently marked if it does not answer."""
    if picture.silent_since is not None:
        return tuple(Span(text, "bad") for text, _ in fit(_silence(picture), width))
    version = picture.summary.version
    left = (
        Span(f"{clock(picture.ts)} ", "label"),
        Span(f" collector {version}".rstrip(), "title"),
        Span(f"  {picture.endpoint}", "label"),
    )
    if not picture.answered:
        return spread(left, (Span("asking … ", "label"),), width)
    if paused:
        return spread(left, (Span(" PAUSED, p goes on ", "warn"),), width)
    return spread(
        left, (Span(" THE CHAIN IS HALTED ", "bad"),) if picture.summary.halted else (), width
    )


def _silence(picture: Picture) -> Line:
    since = picture.silent_since or picture.ts
    text = (
        f" NO ANSWER from {picture.endpoint} since {clock(since)} "
        f"({duration(picture.ts - since)}); retrying"
    )
    if picture.silent_why:
        text += f": {picture.silent_why}"
    return (Span(printable(text)),)


def _coverage(picture: Picture, width: int) -> Line:
    summary = picture.summary
    markets, coverage = summary.markets, summary.coverage
    whole = markets.live == markets.wanted > 0
    values = [point.coverage for point in picture.points]
    room = min(len(values), max(0, width - 78), 60)
    return (
        Span(f"{markets.live:,} of {markets.wanted:,} live", "good" if whole else "warn"),
        Span("   coverage ", "label"),
        Span(f"{coverage.now:.4f}", "" if whole else "warn"),
        Span(f" mean {coverage.mean:.4f}", "label"),
        Span("   completeness ", "label"),
        Span(completeness(summary)),
        Span("   "),
        Span(sparkline(values, room, top=1.0) if room > 7 else "", "spark"),
    )


def _blocks(summary: Summary) -> Line:
    blocks, gaps = summary.blocks, summary.gaps
    return (
        Span("block ", "label"),
        Span(f"{blocks.head:,}"),
        Span(f" {pace(summary)}".rstrip(), "label"),
        Span("   gaps ", "label"),
        Span(f"{gaps.open:,} open", "warn" if gaps.open else ""),
        Span(f", {gaps.closed:,} closed", "label"),
        Span("   replayed ", "label"),
        Span(f"{blocks.replayed:,}"),
        Span("   missing ", "label"),
        Span(f"{blocks.missing:,}", "bad" if blocks.missing else ""),
    )


def _flow(picture: Picture) -> Line:
    frames, events = picture.summary.frames, picture.summary.events
    latency = picture.summary.hop("recv_to_aggregator")
    return (
        Span(f"{rate(picture.frames_per_s)} frames/s"),
        Span(f"   latency p50 {micros(latency.p50).strip()}", "label"),
        Span(f" p99 {micros(latency.p99).strip()}", "label"),
        Span("   dropped ", "label"),
        Span(f"{frames.dropped:,}", "warn" if frames.dropped else ""),
        Span(f"   {events.trades:,} trades, {events.book_updates:,} book changes", "label"),
    )


def _budget(latency: Hops, width: int) -> Line:
    """Say where the time goes, hop by hop, on a screen that has room for it."""
    if width < 150:
        return ()
    hops = [f"{name} {micros(latency[hop].p99).strip()}" for hop, name in _HOPS if hop in latency]
    return (Span(f"   p99 of hops: {', '.join(hops)}", "label"),)


def _states(counts: dict[str, int]) -> Line:
    """Count the states, which is the legend of the grid as well."""
    spans = [
        *(Span("░", "live0"), Span("▒", "live1"), Span("▓", "live2"), Span("█", "live3")),
        Span(f" live {counts.get('live', 0):,}"),
    ]
    for state, mark in MARKS.items():
        number = counts.get(state, 0)
        spans += [
            Span("  "),
            Span(mark, state),
            Span(f" {state} {number:,}", "" if number else "label"),
        ]
    return tuple(spans)
