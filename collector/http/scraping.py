"""``/metrics``: what Prometheus scrapes."""

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import Any

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
