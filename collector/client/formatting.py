"""Received events as text: a line for people, or a JSON object for programs."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from collector.client.received import ChainReplaced, Event, Joined, Lost, Received, Unanswered
from collector.settings.wording import plural
from shards.protocol.channels import BY_EVENT
from shards.protocol.events import Gap
from shards.protocol.text import printable

_encode_json = msgspec.json.Encoder().encode


def json_line(received: Received) -> str:
    """All fields by name; prices and quantities as exact texts, as on the wire."""
    fields = _by_name(received)
    return _encode_json({"kind": type(received.event).__name__.lower()} | fields).decode()


def text_line(received: Received) -> str:
    """Local time, channel, symbol, height and what happened, aligned."""
    event = received.event
    # Whatever the channel: the block's time where it has one, then ours.
    times = (getattr(event, name, 0) for name in ("ts_event", "ts_recv", "ts"))
    ts = next(filter(None, times), received.ts_sub)
    height = str(event.first) if isinstance(event, Gap) else str(getattr(event, "height", ""))
    words = f"{_clock(ts)}  {received.channel:<7}  {received.symbol:<16}  {height:>9}  "
    return printable(words + describe(event))


def describe(event: Event) -> str:
    """Return a short description of an event."""
    channel = BY_EVENT.get(type(event))
    if channel is not None:
        return channel.text(event)
    match event:
        case Lost():
            many = "" if event.first == event.last else f" to {event.last}"
            return f"LOST {event.unit} {event.first}{many}: {event.reason}"
        case Joined():
            unmatched = f"; nothing matches {', '.join(event.unmatched)}" if event.unmatched else ""
            if not event.topics and not event.unmatched:
                unmatched = ": none is published yet, or this key may not read them"
            return (
                f"following {plural(event.topics, 'topic')}, complete through height {event.head}"
                f"{unmatched}"
            )
        case ChainReplaced():
            return (
                f"THE CHAIN WAS REPLACED after height {event.former_head}; everything starts over"
            )
        case Unanswered():
            return f"the aggregator has not answered for {event.silent_s:.0f} s; waiting for it"
    return type(event).__name__


def _clock(ts: int) -> str:
    local = datetime.fromtimestamp(ts / 1e9, tz=UTC).astimezone()
    return local.strftime("%H:%M:%S.") + f"{local.microsecond // 1000:03}"


def _by_name(value: Any) -> Any:
    """Convert Structs to dicts, including array-like ones."""
    if isinstance(value, msgspec.Struct):
        return {name: _by_name(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, list | tuple):
        return [_by_name(item) for item in value]
    return value
