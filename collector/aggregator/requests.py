"""
Answer what is asked at the ROUTER: one part in, a MessagePack map with ``ask`` and ``id``.

===============  ==========================  ==============================================
ask              who asks                    answer
===============  ==========================  ==============================================
``report``       shards, once a second       `shards.protocol.control.Answer`
``topics``       subscribers                 last sequence of each topic (history.py)
``replay``       subscribers                 frames of one topic (history.py)
``status``       ``collector status``        the summary (status.py)
``markets``      ``collector markets``       every market with its state
``grid``         views                       of every market, what a grid of them shows
``events``       views                       what happened after entry ``after`` (journal.py)
``history``      views                       how it stood since ``since`` (timeline.py)
``metrics``      the HTTP server             everything to make metrics of (measures.py)
``order``        ``collector add``, …        how far the order has got (orders.py)
``processes``    the coordinator             the summary, and what steering needs; takes names,
                                             pids and restarts, and where markets belong
===============  ==========================  ==============================================
"""

import time
from typing import Any, Final, Literal

import msgspec

from collector.aggregator.forwarder import Aggregator
from collector.aggregator.telemetry import summary
from collector.aggregator.telemetry.metrics_snapshot import measure
from collector.aggregator.telemetry.process_table import Processes
from collector.settings.parts import Steering
from shards.protocol.control import ReportRequest
from shards.runtime.loop_monitor import Watched

_decode: Final = msgspec.msgpack.Decoder(dict[str, Any])
_reports: Final = msgspec.msgpack.Decoder(ReportRequest)
_encode: Final = msgspec.msgpack.Encoder().encode


def answer(
    request: bytes, aggregator: Aggregator, processes: Processes, watched: Watched
) -> list[bytes]:
    """Answer one request; one that cannot be understood gets an ``error`` in a sentence."""
    now = time.monotonic()
    try:
        asked = _decode.decode(request)
        if asked.get("ask") == "report":
            report = _reports.decode(request)
            reply = aggregator.report(report.report, now)
            reply.id = report.id
            return [_encode(reply)]
    except msgspec.DecodeError as error:
        return [_encode({"id": None, "error": f"request not understood: {error}"})]
    match asked.get("ask"):
        case "status":
            found: dict[str, Any] = {"status": summary.summary(aggregator, processes, watched, now)}
        case "grid":
            found = {"grid": summary.grid(aggregator, now)}
        case "markets":
            symbols = asked.get("symbols")
            only = set(map(str, symbols)) if isinstance(symbols, list) else None
            found = {"markets": summary.markets(aggregator, now, only)}
        case "events" | "history":
            found = _past(asked, aggregator)
        case "metrics":
            wanted = asked.get("markets")
            limit = wanted if isinstance(wanted, int) and wanted > 0 else 0
            found = {"metrics": measure(aggregator, processes, watched, now, limit)}
        case "processes":
            rows = processes.tell(asked.get("processes", []))
            aggregator.transitions.processes(rows, time.time_ns())
            aggregator.processes({row.name: row.pid for row in rows})
            aggregator.statuses(asked.get("statuses", {}))
            found = _steer(asked, aggregator)
            found["status"] = summary.summary(aggregator, processes, watched, now)
        case "order":
            found = dict(aggregator.orders.ask(str(asked.get("token")), asked.get("order", {})))
        case _:
            coverage = aggregator.coverage
            return aggregator.history.answer(
                asked, aggregator.config.epoch, coverage.accounted(), coverage.ahead()
            )
    return [_encode({"id": asked.get("id"), **found})]


def _steer(asked: dict[str, Any], aggregator: Aggregator) -> dict[str, Any]:
    """Take where the markets belong; say how far they are, and what was ordered."""
    if "steering" in asked:
        aggregator.steer(msgspec.convert(asked["steering"], Steering))
    ownership = aggregator.ownership
    return {
        "revision": aggregator.revision,
        "unsettled": ownership.unsettled(),
        "loads": ownership.loads(),
        "orders": aggregator.orders.open(),
    }


class _EventsRequest(msgspec.Struct, tag_field="ask", tag="events"):
    after: int = 0


class _HistoryRequest(msgspec.Struct, tag_field="ask", tag="history"):
    grain: Literal["second", "minute"] = "second"
    since: float = 0.0
    symbol: str | None = None
    """Of one market; without it, of the whole."""


def _past(asked: dict[str, Any], aggregator: Aggregator) -> dict[str, Any]:
    """Answer what was: the journal, or how it stood over time."""
    try:
        wanted = msgspec.convert(asked, _EventsRequest | _HistoryRequest)
    except msgspec.ValidationError as error:
        return {"error": f"request not understood: {error}"}
    if isinstance(wanted, _EventsRequest):
        return {"events": aggregator.journal.after(wanted.after), "last": aggregator.journal.last}
    if wanted.symbol is None:
        return aggregator.timeline.answer(wanted.grain, wanted.since)
    first = aggregator.coverage.first(wanted.symbol)
    times = aggregator.market_times
    return times.answer(wanted.symbol, first, grain=wanted.grain, since=wanted.since)
