"""The event log: what happened, newest last. Pure."""

from collections.abc import Sequence
from typing import Final

from collector.aggregator.telemetry.journal import Entry
from collector.client.performance import process_name
from collector.tui.numbers import clock
from collector.tui.spans import Line, Span, clip, fit, printable, section

_TONES: Final = {
    "state": "",
    "gap": "warn",
    "restart": "warn",
    "breaker": "warn",
    "halt": "bad",
    "connect": "syncing",
    "move": "syncing",
    "listing": "good",
}


def event_lines(events: Sequence[Entry], width: int, height: int, *, back: int = 0) -> list[Line]:
    """Lay out a title and the newest events that fit, or those `back` events earlier."""
    end = len(events) - back
    shown = events[max(0, end - (height - 1)) : end]
    where = f"{back:,} newer below " if back else ""
    title = (Span("EVENTS ", "title"), Span(f"{len(events):,}" if events else "none yet"))
    lines = [section(title, width, (Span(where),))]
    lines += [fit(_line(event), width) for event in shown]
    return lines + [fit((), width)] * (height - len(lines))


def _line(event: Entry) -> Line:
    kind, text = event.kind, event.text
    who = [process_name(event.shard)] if event.shard is not None else []
    who += [event.symbol] if event.symbol else []
    name = " ".join(who)
    # The text of some begins with whom it is about.
    about = "" if not name or text.startswith(name) else f"{printable(name)}  "
    reason = f": {event.reason}" if event.reason else ""
    return (
        Span(clock(event.ts / 1e9), "label"),
        Span(f"  {clip(printable(kind), 7)}", _TONES.get(kind, "")),
        Span(f"  {about}", "label"),
        Span(printable(f"{text}{reason}")),
    )
