"""
Answer what is asked at the ROUTER: one part in, a MessagePack map with ``ask`` and ``id``.

===============  ==========================  ==============================================
ask              who asks                    answer
===============  ==========================  ==============================================
``report``       shards, once a second       `shards.reports.Answer`
``topics``       subscribers                 last sequence of each topic (history.py)
``replay``       subscribers                 frames of one topic (history.py)
``status``       ``collector status``        the summary (status.py)
``markets``      ``collector markets``       every market with its state
``events``       views                       what happened after entry ``after`` (journal.py)
``history``      views                       how it stood since ``since`` (timeline.py)
``processes``    the coordinator             -, takes names, pids and restarts
===============  ==========================  ==============================================
"""

import math
import time
from typing import Any, Final

import msgspec

from collector.aggregation import status
from collector.aggregation.aggregator import Aggregator
from collector.aggregation.processes import Processes
from shards.reports import ReportRequest
from shards.vitals import Watched

_decode: Final = msgspec.msgpack.Decoder(dict[str, Any])
_reports: Final = msgspec.msgpack.Decoder(ReportRequest)
_encode: Final = msgspec.msgpack.Encoder().encode


RECENT_S: Final = 0.6
"""The coordinator has the summary built twice a second; views are content with that one."""


class Summary:
    """The summary, encoded: milliseconds to build, so whoever only looks gets the last one."""

    def __init__(self, aggregator: Aggregator, processes: Processes, watched: Watched) -> None:
        self._aggregator = aggregator
        self._processes = processes
        self._watched = watched
        self._built: msgspec.Raw = msgspec.Raw()
        self._built_at = -math.inf

    def anew(self, now: float) -> msgspec.Raw:
        """Build it."""
        found = status.summary(self._aggregator, self._processes, self._watched, now)
        self._built, self._built_at = msgspec.Raw(_encode(found)), now
        return self._built

    def recent(self, now: float) -> msgspec.Raw:
        """Return one that is at most `RECENT_S` old."""
        return self._built if now - self._built_at < RECENT_S else self.anew(now)


def answer(
    request: bytes, aggregator: Aggregator, processes: Processes, summary: Summary
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
            found: dict[str, Any] = {"status": summary.recent(now)}
        case "markets":
            found = {"markets": status.markets(aggregator, now)}
        case "events" | "history":
            found = _past(asked, aggregator)
        case "processes":
            rows = processes.tell(asked.get("processes", []))
            aggregator.transitions.processes(rows, time.time_ns())
            aggregator.processes({row.name: row.pid for row in rows})
            aggregator.coverage.statuses(asked.get("statuses", {}))
            found = {"status": summary.anew(now)}
        case _:
            coverage = aggregator.coverage
            return aggregator.history.answer(
                asked, aggregator.config.epoch, coverage.accounted(), coverage.ahead()
            )
    return [_encode({"id": asked.get("id"), **found})]


def _past(asked: dict[str, Any], aggregator: Aggregator) -> dict[str, Any]:
    """Answer what was: the journal, or the points of a timeline."""
    try:
        if asked["ask"] == "history":
            since = asked.get("since", 0)
            return aggregator.timeline.answer(asked.get("grain", "second"), since)
        after = asked.get("after", 0)
        if not isinstance(after, int):
            raise ValueError(f"after {after!r} is no entry's id")
    except ValueError as error:
        return {"error": f"request not understood: {error}"}
    return {"events": aggregator.journal.after(after), "last": aggregator.journal.last}
