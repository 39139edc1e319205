"""
Answer requests: one part in, a MessagePack map with ``ask`` and ``id``.

There are three kinds of endpoints (`Role`): the public endpoints answer readers, the admin endpoint
also takes admin commands, and the control endpoint also takes messages from the collector's own
processes. Requests are foreign bytes: whatever arrives, the reply is a sentence and the process
continues.

===============  ==========================  ==============================================
ask              who asks                    answer
===============  ==========================  ==============================================
``report``       shards, once a second       `shards.protocol.control.Answer`
``topics``       subscribers                 last sequence of each topic (replay_buffer.py)
``replay``       subscribers                 frames of one topic (replay_buffer.py)
``status``       ``collector status``        the summary (status/summary.py)
``markets``      ``collector markets``       every market with its state
``grid``         views                       the columns of every market that a grid shows
``events``       views                       journal entries after ``after`` (journal.py)
``history``      views                       time series since ``since`` (time_series.py)
``metrics``      the HTTP server             everything needed for metrics (metrics_snapshot.py)
``cluster``      readers of a cluster        where its cells publish (client/cluster_map.py)
``order``        ``collector add``, …        progress of the command; admin endpoint only
``processes``    the coordinator             the summary, and what steering needs; takes names,
                                             pids and restarts, and where markets belong;
                                             control endpoint only, like ``report``
===============  ==========================  ==============================================
"""

import logging
import time
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from collector.access.requester import Requester
from collector.access.rights import ALL_RIGHTS, Rights
from collector.aggregator import cluster_file
from collector.aggregator.aggregator import Aggregator
from collector.aggregator.coordination import Direction, Standing
from collector.aggregator.status import summary
from collector.aggregator.status.metrics_snapshot import measure
from collector.aggregator.telemetry.process_table import Processes
from collector.client.summary import Summary
from shards.protocol.channels import ALWAYS
from shards.protocol.control import ReportRequest
from shards.protocol.errors import UNREADABLE
from shards.protocol.settings import CountOrZero
from shards.runtime.loop_monitor import LoopMonitor


class _Name(msgspec.Struct):
    ask: Any = None
    id: Any = None


_names: Final = msgspec.msgpack.Decoder(_Name)
_decode: Final = msgspec.msgpack.Decoder(dict[str, Any])
_reports: Final = msgspec.msgpack.Decoder(ReportRequest)
_encode: Final = msgspec.msgpack.Encoder().encode

log = logging.getLogger(__name__)

Role: TypeAlias = Literal["read", "operate", "control"]
"""An endpoint's role; ``control`` is for our own processes."""

_KEPT_FROM: Final[dict[Role, frozenset[str]]] = {
    "read": frozenset(("report", "processes", "order")),
    "operate": frozenset(("report", "processes")),
    "control": frozenset(("order",)),
}
_BELONGS: Final = {
    "order": "admin commands are taken at the admin endpoint, from the collector's own user on "
    "its host ('collector add' and the like find it by themselves)",
    "report": "it belongs to the collector's own processes",
    "processes": "it belongs to the collector's own processes",
}


def answer(
    parts: Sequence[bytes],
    role: Role,
    aggregator: Aggregator,
    processes: Processes,
    watched: LoopMonitor,
    asker: Requester | None = None,
) -> list[bytes]:
    """
    Answer one request; an invalid one gets an ``error`` in one sentence.

    Args:
        parts: What came behind the sender's identity. A REQ socket puts an empty part first,
            and waits for one in the reply.
        asker: What the sender may read; without one, everything.

    """
    envelope, request = ([parts[0]], parts[1:]) if parts[0] == b"" else ([], parts)
    if len(request) != 1:
        return [*envelope, _refusal(None, f"not one part but {len(request)}")]
    try:
        asked = _asked(request[0], role)
    except UNREADABLE as error:
        return [*envelope, _refusal(None, str(error))]
    id_ = asked.get("id")
    try:
        if asker is not None and (refused := beyond(asked, asker)):
            return [*envelope, _encode({"id": id_, "error": refused})]
        rights = ALL_RIGHTS if asker is None else asker.rights
        reply = _answer(asked, request[0], role, aggregator, processes, watched, rights)
    except msgspec.ValidationError as error:
        reply = [_refusal(id_, str(error))]
    except RecursionError:
        reply = [_refusal(None, "it is nested too deeply")]
    except Exception:
        if role == "control":
            raise
        # Our bug, but triggered by one reader: it must not end the process for all others.
        log.exception("a request could not be answered: %.200r", request[0])
        reply = [_refusal(id_, "the collector failed to answer it; its log says why")]
    return [*envelope, *reply]


def _asked(request: bytes, role: Role) -> dict[str, Any]:
    """Decode a request; of a report, which is long and is decoded as what it is, only its name."""
    if role == "control":
        what = _names.decode(request)
        if what.ask == "report":
            return {"ask": what.ask, "id": what.id}
    return _decode.decode(request)


_OF_ALL_MARKETS: Final = frozenset(("grid", "events", "history", "metrics"))


def beyond(asked: dict[str, Any], asker: Requester) -> str:
    """Say why a request is more than its sender may have; nothing if it is not."""
    what = asked.get("ask")
    if not asker.may_ask():
        asker.refuse("requests")
        return "its requests take too much of the collector's time: ask again in a second"
    if what == "replay":
        topic = asked.get("topic")
        if isinstance(topic, str) and not asker.rights.may_read(topic):
            asker.refuse("rights")
            return f"the topic {topic!r:.200} is not among those that this key may read"
        if not asker.may_replay():
            asker.refuse("replays")
            return "too many replays at once: ask again in a second"
    elif isinstance(what, str) and what in _OF_ALL_MARKETS and not asker.rights.everything:
        asker.refuse("rights")
        return f"{what!r} shows all markets, and this key may read some topics only"
    return ""


def _refusal(id_: object, why: str) -> bytes:
    return _encode({"id": id_, "error": f"request not understood: {why}"})


def _answer(
    asked: dict[str, Any],
    request: bytes,
    role: Role,
    aggregator: Aggregator,
    processes: Processes,
    watched: LoopMonitor,
    rights: Rights,
) -> list[bytes]:
    now = time.monotonic()
    what = asked.get("ask")
    if isinstance(what, str) and what in _KEPT_FROM[role]:
        refused = f"{what!r} is not answered at this endpoint: {_BELONGS[what]}"
        return [_encode({"id": asked.get("id"), "error": refused})]
    if what == "report":
        report = _reports.decode(request)
        reply = aggregator.report(report.report, now)
        reply.id = report.id
        return [_encode(reply)]
    match what:
        case "status":
            found: dict[str, Any] = {"status": summary.summary(aggregator, processes, watched, now)}
        case "grid":
            found = {"grid": summary.grid(aggregator, now)}
        case "markets":
            wanted = msgspec.convert(asked, _MarketsRequest).symbols
            only = None if wanted is None else set(wanted)
            rows = summary.markets(aggregator, now, only)
            found = {"markets": [row for row in rows if rights.may_see(row.symbol)]}
        case "events" | "history":
            found = _past(asked, aggregator)
        case "metrics":
            limit = msgspec.convert(asked, _MetricsRequest).markets
            found = {"metrics": measure(aggregator, processes, watched, now, limit)}
        case "cluster":
            found = cluster_file.answer(aggregator.run.config.state)
        case "processes":
            direction = msgspec.convert(asked, Direction)
            _direct(direction, aggregator, processes)
            status = summary.summary(aggregator, processes, watched, now)
            found = msgspec.structs.asdict(_standing(aggregator, status))
        case "order":
            order = msgspec.convert(asked, _OrderRequest)
            found = dict(aggregator.commands.ask(order.token, order.order))
        case _:
            coverage = aggregator.coverage
            ahead = {s: height for s, height in coverage.ahead().items() if rights.may_see(s)}
            origin = {"channels": [*ALWAYS, *aggregator.run.config.channels]}
            chain_id = aggregator.run.chain.id
            return aggregator.publisher.replay.answer(
                asked,
                aggregator.run.config.epoch,
                coverage.accounted(),
                ahead,
                None if rights.everything else rights.may_read,
                origin | ({"chain_id": chain_id} if chain_id else {}),
            )
    return [_encode({"id": asked.get("id"), **found})]


def _direct(direction: Direction, aggregator: Aggregator, processes: Processes) -> None:
    """Take the coordinator's direction."""
    rows = direction.processes
    processes.take(rows)
    aggregator.telemetry.recorder = direction.recorder
    aggregator.telemetry.changes.processes(rows, time.time_ns())
    aggregator.processes({row.shard: row.pid for row in rows if row.shard is not None})
    if direction.steering is not None:
        aggregator.steer(direction.steering)
    # Afterwards, so that markets which have just been added are announced too.
    aggregator.statuses(direction.statuses)


def _standing(aggregator: Aggregator, status: Summary) -> Standing:
    """Describe how far the aggregator has carried out the desired state."""
    return Standing(
        revision=aggregator.run.revision,
        unsettled=aggregator.handover.unsettled(),
        loads=aggregator.handover.ownership.loads(),
        commands=aggregator.commands.open(),
        status=status,
    )


class _MarketsRequest(msgspec.Struct):
    symbols: list[str] | None = None
    """Only these; by default all."""


class _MetricsRequest(msgspec.Struct):
    markets: CountOrZero = 0
    """Number of markets with metrics of their own."""


class _OrderRequest(msgspec.Struct):
    token: str
    order: dict[str, Any]


class _EventsRequest(msgspec.Struct, tag_field="ask", tag="events"):
    after: int = 0


class _HistoryRequest(msgspec.Struct, tag_field="ask", tag="history"):
    grain: Literal["second", "minute"] = "second"
    since: float = 0.0
    symbol: str | None = None
    """Of this market; by default of the whole collector."""


def _past(asked: dict[str, Any], aggregator: Aggregator) -> dict[str, Any]:
    """Answer a request about the past: the journal, or time series."""
    try:
        wanted = msgspec.convert(asked, _EventsRequest | _HistoryRequest)
    except msgspec.ValidationError as error:
        return {"error": f"request not understood: {error}"}
    if isinstance(wanted, _EventsRequest):
        return {
            "events": aggregator.telemetry.journal.after(wanted.after),
            "last": aggregator.telemetry.journal.last,
        }
    if wanted.symbol is None:
        return aggregator.telemetry.timeline.answer(wanted.grain, wanted.since)
    first = aggregator.coverage.first(wanted.symbol)
    times = aggregator.telemetry.market_times
    return times.answer(wanted.symbol, first, grain=wanted.grain, since=wanted.since)
