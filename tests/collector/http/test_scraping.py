"""``/metrics`` while the aggregator does not answer."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from starlette.requests import Request

from collector.http import scraping
from collector.http.view import View
from collector.settings.parts import ServingConfig
from tests.system.running import free_port_pair


async def scraped(view: View, config: ServingConfig, *headers: tuple[bytes, bytes]) -> str:
    [route] = scraping.routes(view, config, Counter())
    endpoint: Any = route.endpoint
    answer = await endpoint(Request({"type": "http", "headers": list(headers)}))
    return bytes(answer.body).decode()


@pytest.mark.parametrize("limit", [b"0.3", b"", b"nan", b"-1", b"soon"])
async def test_a_scrape_tells_that_the_aggregator_is_away_before_it_is_too_late(limit: bytes):
    """An answer that comes after Prometheus' limit is none, and the alert of it would never ring."""
    view = View(f"tcp://127.0.0.1:{free_port_pair()}")
    config = ServingConfig(requests="", http="", publish="")
    # The question that all handlers share: it waits as long as it always does.
    asked = asyncio.create_task(view.ask("metrics", markets=config.metrics_markets))
    try:
        await asyncio.sleep(0)
        body = await scraped(view, config, (b"x-prometheus-scrape-timeout-seconds", limit))
        assert "collector_aggregator_up 0.0" in body
        assert limit != b"0.3" or not asked.done()
    finally:
        with pytest.raises(TimeoutError):
            await asked
        view.close()
