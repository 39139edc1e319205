"""Poll an aggregator without blocking the screen."""

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

from collector.aggregator.telemetry.journal import Entry
from collector.aggregator.telemetry.time_series import Point
from collector.client.answers import read
from collector.client.market_status import read_markets
from collector.client.requests import AsyncRequestClient
from collector.client.summary import read_summary
from collector.tui.view_model import Answers, Watched

EVERY_S: Final = 0.5
"""A killed shard must be visible within two seconds; at most three redraws per second."""
_ANSWER_S: Final = 1.5


async def poll(endpoint: str, watched: Watched, seen: Callable[[], None]) -> None:
    """Keep `watched` up to date until cancelled; call `seen` after every poll."""
    with closing(AsyncRequestClient.of(endpoint)) as client:
        while True:
            started = time.monotonic()
            try:
                answers = await _turn(client, watched)
            except TimeoutError:
                watched.silent()
            except ValueError as error:
                # It refuses, for now or for this key, or is of another version.
                watched.silent(str(error))
            else:
                watched.take(answers, time.monotonic(), time.time())
            seen()
            await asyncio.sleep(max(0.0, started + EVERY_S - time.monotonic()))


async def _turn(client: AsyncRequestClient, watched: Watched) -> Answers:
    """
    Ask for everything that is new.

    Raises:
        TimeoutError: If one question got no answer.
        ValueError: If one was refused, or its answer cannot be read.

    """

    async def ask(what: str, **fields: Any) -> dict[str, Any]:
        return await client.ask(what, within_s=_ANSWER_S, **fields)

    summary = read_summary(await ask("status"))
    markets = read_markets(await ask("markets"))
    events = read(await ask("events", after=watched.last_event), "events", list[Entry])
    since = watched.since(time.time())
    points = read(await ask("history", grain="second", since=since), "points", list[Point])
    return Answers(summary, markets, events, points)
