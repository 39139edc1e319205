"""Keep the view model current while any client is connected: one poll for all of them."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from collector.aggregator.telemetry.journal import Entry
from collector.aggregator.telemetry.time_series import Point
from collector.client.answers import read
from collector.client.market_status import read_markets
from collector.client.summary import read_summary
from collector.web.cell_requests import CellRequests
from collector.web.market_watch import Watching
from collector.web.view_model import POINTS, ViewModel

log = logging.getLogger(__name__)

EVERY_S: Final = 0.5
_ANSWER_S: Final = 1.5
_SHARE: Final = 20.0
"""The pause after a poll is this many times the time its answers took, so that polling costs the
aggregator at most a twentieth of its time, however many markets there are."""
_SLOWEST_S: Final = 2.0


class Polling:
    """Polls the aggregator and updates the view model."""

    def __init__(
        self,
        requests: CellRequests,
        board: ViewModel,
        watching: Watching,
        tell: Callable[[], None],
    ) -> None:
        self._requests = requests
        self._board = board
        self._watching = watching
        self._tell = tell
        self._chosen = 0
        self._answered_at = time.time()
        self._second_due = 0.0
        self._one_past = asyncio.Lock()
        self._why = ""
        """Why the collector refused the last question; empty if it did not."""

    async def run(self, looked_at: asyncio.Event) -> None:
        """Poll while any client is connected; never returns."""
        while True:
            await looked_at.wait()
            began = time.monotonic()
            try:
                await self._once()
                took_s = time.monotonic() - began
                self._why = ""
            except (TimeoutError, ValueError) as error:
                await self._no_answer("" if isinstance(error, TimeoutError) else str(error))
                took_s = 0.0
            self._tell()
            await asyncio.sleep(min(_SLOWEST_S, max(EVERY_S - took_s, _SHARE * took_s)))

    async def _no_answer(self, why: str) -> None:
        """There is none, or the collector refuses: for now, for this key, or by its version."""
        if why and why != self._why:
            log.warning("%s", why)
        self._why = why
        self._board.silent(int(self._answered_at * 1000), why)
        self._board.cells_are(await self._requests.rows())

    async def _once(self) -> None:
        """Request the grid and the open markets, and once a second the rest."""
        self._board.grid((await self._ask("grid"))["grid"], time.monotonic())
        self._answered_at = time.time()
        if self._requests.chosen != self._chosen:
            self._chosen = self._requests.chosen
            self._board.another_cell()
        if symbols := self._watching.symbols():
            self._watching.rows(read_markets(await self._ask("markets", symbols=symbols)))
        if time.monotonic() >= self._second_due:
            self._board.status(read_summary(await self._ask("status")))
            await self.past()
            self._board.cells_are(await self._requests.rows())
            self._second_due = time.monotonic() + 1.0

    async def past(self) -> None:
        """
        Request the journal and the time series since the last time.

        Raises:
            TimeoutError: If the collector does not answer.

        """
        async with self._one_past:
            await self._newer()

    async def _newer(self) -> None:
        board = self._board
        found = await self._ask("events", after=board.last_event)
        if found["events"] or found["last"] != board.last_event:
            board.events(read(found, "events", list[Entry]), found["last"])
        now = int(time.time())
        board.clock_is(now)
        since = max(board.last_point + 1, now - POINTS)
        found = await self._ask("history", grain="second", since=since)
        if found["points"]:
            board.points(read(found, "points", list[Point]))

    async def _ask(self, what: str, **fields: Any) -> dict[str, Any]:
        return await self._requests.ask(what, within_s=_ANSWER_S, **fields)
