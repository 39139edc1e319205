"""``/metrics``: what Prometheus scrapes."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

import msgspec
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from collector.aggregator.status.metrics_snapshot import Measures
from collector.http import metrics
from collector.http.view import View
from collector.settings.parts import ServingConfig

_TIMEOUT: Final = "x-prometheus-scrape-timeout-seconds"
_SHARE: Final = 0.7
"""Of a scrape's time; the rest is for encoding and the way."""


class _Found(Collector):
    """Metric families in the form that the encoders take."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def routes(view: View, config: ServingConfig, closed: Counter[str]) -> list[Route]:
    """Create the route."""

    async def scrape(request: Request) -> Response:
        families: Iterable[Metric]
        own = [metrics.closed_connections(closed)]
        try:
            async with asyncio.timeout(_within_s(request.headers.get(_TIMEOUT, ""))):
                answer: Any = await view.ask("metrics", markets=config.metrics_markets)
            families = metrics.families(msgspec.convert(answer["metrics"], Measures))
        except TimeoutError:
            # A failed scrape would hide which part is away.
            families = [metrics.up(False)]
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(
            encode(_Found(chain(families, own))), headers={"content-type": content_type}
        )

    return [Route("/metrics", scrape)]


def _within_s(header: str) -> float | None:
    """
    Return how long a scrape may wait for the aggregator; None if the scraper did not send its limit.

    Past that limit the scrape has failed, and it would look as if this process were away.
    """
    try:
        limit_s = float(header)
    except ValueError:
        return None
    return limit_s * _SHARE if 0 < limit_s < math.inf else None
