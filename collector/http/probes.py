"""``/healthz`` and ``/readyz`` for orchestrators; ``/status`` and ``/events``."""

import time
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from collector.client.summary import Recorder
from collector.http.view import View
from collector.settings.parts import AWAY_S, ServingConfig

_SILENT_S: Final = 20.0
"""A recorder reports once a second; a restarted one is back sooner than this."""
_LARGEST: Final = 2**63 - 1

_encode: Final = msgspec.json.Encoder().encode


def routes(view: View, config: ServingConfig) -> list[Route]:
    """Create the routes."""

    async def healthz(request: Request) -> Response:
        away_s = time.monotonic() - view.answered_at
        if away_s > 1.0:
            # There may be no other requests that would notice an answer.
            try:
                await view.status()
            except TimeoutError:
                away_s = time.monotonic() - view.answered_at
            else:
                away_s = 0.0
        alive = away_s <= AWAY_S
        reason = "" if alive else f"the aggregator has not answered for {away_s:.0f} s"
        return json_response({"alive": alive, "reason": reason}, 200 if alive else 503)

    async def readyz(request: Request) -> Response:
        wanted = config.ready_coverage
        try:
            status = await view.status()
        except TimeoutError as error:
            return json_response({"ready": False, "reason": str(error)}, 503)
        coverage = status.coverage.now
        reason = "" if status.covers(wanted) else f"coverage {coverage:.4f} is below {wanted:g}"
        reason = reason or status.state.error or _recording(status.recorder)
        ready = not reason
        body = {"ready": ready, "coverage": coverage, "threshold": wanted, "reason": reason}
        return json_response(body, 200 if ready else 503)

    async def status(request: Request) -> Response:
        return json_response(await view.status())

    async def markets(request: Request) -> Response:
        return json_response(await view.markets())

    async def events(request: Request) -> Response:
        return json_response(await view.events(number(request, "after")))

    async def history(request: Request) -> Response:
        grain = request.query_params.get("grain", "second")
        symbol = request.query_params.get("market")
        return json_response(await view.history(grain, number(request, "since"), symbol))

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/status", status),
        Route("/markets", markets),
        Route("/events", events),
        Route("/history", history),
    ]


def json_response(body: Any, status: int = 200) -> Response:
    """Encode an answer as JSON, not to be cached."""
    headers = {"cache-control": "no-store"}
    return Response(_encode(body), status, headers, media_type="application/json")


def number(request: Request, name: str) -> int:
    """
    Read a whole number from the query; 0 if it is absent.

    Raises:
        ValueError: If it is not a whole number, or out of range.

    """
    text = request.query_params.get(name, "0")
    if text.isdecimal() and text.isascii() and len(text) <= 19 and int(text) <= _LARGEST:
        return int(text)
    raise ValueError(f"{name}={text[:40]!r} is not a whole number from 0 to {_LARGEST}")


def _recording(recorder: Recorder | None) -> str:
    """Return why data is not being recorded; empty if it is, or recording is off."""
    if recorder is None:
        return ""
    age_s = recorder.age_s or 0.0
    if age_s > _SILENT_S:
        return f"not recorded: the recorder has not reported for {age_s:.0f} s"
    if recorder.state in ("recording", "joining", "starting"):
        return ""
    return f"not recorded: {recorder.reason or recorder.state}"
