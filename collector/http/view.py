"""
The aggregator's answers for HTTP handlers; concurrent handlers share one request.

The aggregator's requests are the only connection to the data path. An answer is reused for a fifth
of a second, so a hundred open pages cost the aggregator no more than one.
"""

import asyncio
import time
from typing import Any, Final, TypeAlias

from collector.client.answers import part
from collector.client.market_status import MarketStatus, read_markets
from collector.client.requests import AsyncRequestClient
from collector.client.summary import Summary, read_summary

_WITHIN_S: Final = 2.0
_FRESH_S: Final = 0.2

_Key: TypeAlias = tuple[str, tuple[tuple[str, Any], ...]]


class View:
    """Read-only access to a collector through its aggregator. Close it when done."""

    def __init__(self, requests: str) -> None:
        self._requests = AsyncRequestClient(requests)
        self._asked: dict[_Key, tuple[float, asyncio.Task[dict[str, Any]]]] = {}

    @property
    def answered_at(self) -> float:
        """When the aggregator last answered; the time of construction before the first answer."""
        return self._requests.answered_at

    async def status(self) -> Summary:
        """Return the summary."""
        return read_summary(await self.ask("status"))

    async def markets(self) -> list[MarketStatus]:
        """Return every market with its state."""
        return read_markets(await self.ask("markets"))

    async def events(self, after: int = 0) -> dict[str, Any]:
        """Return ``{events, last}``: the journal's entries after this one."""
        return _pick(await self.ask("events", after=after), "events", "last")

    async def history(
        self, grain: str = "second", since: float = 0, symbol: str | None = None
    ) -> dict[str, Any]:
        """Return the time series since an instant, of the whole collector or of one market."""
        answer = await self.ask("history", grain=grain, since=since, symbol=symbol)
        return {name: value for name, value in answer.items() if name != "id"}

    async def ask(self, what: str, **fields: Any) -> dict[str, Any]:
        """
        Return the aggregator's answer to a request.

        Raises:
            TimeoutError: If there is no answer in time.
            Refused: If it refuses, with its sentence.

        """
        key = (what, tuple(sorted(fields.items())))
        now = time.monotonic()
        at, task = self._asked.get(key, (0.0, None))
        if task is None or (task.done() and now - at > _FRESH_S):
            self._asked = {k: v for k, v in self._asked.items() if now - v[0] < 10 * _FRESH_S}
            task = asyncio.create_task(self._ask(what, fields))
            # Retrieve the exception, so that asyncio does not warn if no handler waits any more.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._asked[key] = now, task
        # A handler that is cancelled must not cancel the answer for the others.
        return await asyncio.shield(task)

    async def _ask(self, what: str, fields: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._requests.ask(what, within_s=_WITHIN_S, **fields)
        except TimeoutError:
            raise TimeoutError(
                "the aggregator does not answer; it is restarted if it has exited"
            ) from None

    def close(self) -> None:
        """Close the socket."""
        self._requests.close()


def _pick(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: part(answer, name) for name in names}
