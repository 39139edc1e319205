"""`collector top` in front of a real collector of three hundred markets."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from collector import Subscriber
from collector.tui.app import Top
from collector.tui.canvas import Canvas
from collector.tui.market_screen import MarketPage
from collector.tui.panels import Events, Grid
from collector.tui.spans import plain
from shards.protocol.event_text import trim
from tests.refusing import refusing
from tests.simulator.client import simulator
from tests.system.running import Running, collector, free_port_pair

_MARKETS = 300


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector of many markets, everything live."""
    folder = tmp_path_factory.mktemp("top")
    options = ("--markets", str(_MARKETS), "--block-time", "0.5", "--matches", "20")
    with simulator(*options, "--paused", "0") as venue:
        # What a test stops is not to be replaced before the test has seen it.
        config = str(venue.config(Path(folder), extra="[supervision]\nstall_after_s = 120\n"))
        with collector(folder, "--shards", "2", "--config", config) as started:
            started.await_live()
            yield started


class Shown:
    """The application on a screen that only this test sees."""

    def __init__(self, app: Top, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    @property
    def text(self) -> str:
        """All that is drawn on the present screen."""
        return "\n".join(
            plain(line) for canvas in self.app.screen.query(Canvas) for line in canvas.drawn
        )

    @property
    def grid(self) -> Grid:
        """The grid of markets."""
        return self.app.screen.query_one(Grid)

    async def eventually(self, condition: Callable[[], object], within_s: float = 60.0) -> None:
        """Wait for something true."""
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s; the screen:\n{self.text}"
            await self.pilot.pause(0.05)

    async def press(self, *keys: str) -> None:
        """Type."""
        await self.pilot.press(*keys)
        await self.pilot.pause()


@asynccontextmanager
async def shown(
    publish: str, *patterns: str, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[Shown]:
    """Run the application for the length of the block."""
    app = Top(publish, patterns)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield Shown(app, pilot)


async def test_three_hundred_markets_are_live_and_can_be_scrolled(running: Running) -> None:
    async with shown(running.publish) as top:
        await top.eventually(lambda: len(top.grid.rows) == _MARKETS)
        await top.eventually(lambda: {row.state for row in top.grid.rows} == {"live"})
        await top.eventually(lambda: f"{_MARKETS} of {_MARKETS} live" in top.text)
        assert "lines 1–" in top.text  # noqa: RUF001
        await top.press("end")
        assert top.grid.cursor == _MARKETS - 1
        assert f" of {-(-_MARKETS // 40)}" in top.text
        assert top.grid.rows[-1].symbol in top.text
        await top.press("pageup", "up", "left", "home", "v")
        assert top.grid.rows[0].symbol in plain(top.grid.drawn[1])
        for size in ((40, 10), (20, 5), (200, 50), (80, 24)):
            await top.pilot.resize_terminal(*size)
            await top.pilot.pause()
        assert "shard 1" in top.text


async def test_keys_sort_filter_pause_and_explain(running: Running) -> None:
    async with shown(running.publish, "INJ*", "BTC*", size=(200, 50)) as top:
        await top.eventually(lambda: top.grid.rows)
        assert {row.symbol[:3] for row in top.grid.rows} == {"INJ", "BTC"}
        await top.press("right", "right")
        chosen = top.grid.chosen
        await top.press("s")
        assert "by state" in top.text
        assert top.grid.chosen == chosen
        await top.press("/", *"btc", "enter")
        assert {row.symbol[:3] for row in top.grid.rows} == {"BTC"}
        await top.press("escape")
        assert {row.symbol[:3] for row in top.grid.rows} == {"INJ", "BTC"}
        await top.press("p")
        assert "PAUSED" in top.text
        drawn, polled = top.text, top.app.picture
        later = polled.ts + 1.5
        await top.eventually(lambda: top.app.latest().ts > later)
        assert top.app.picture is polled
        assert top.text == drawn
        await top.press("p")
        await top.eventually(lambda: top.app.picture.ts > later)
        await top.press("e")
        assert "EVENTS" in top.text
        await top.press("up", "pageup", "home", "end", "question_mark", "escape", "escape")
        assert top.grid.rows


async def test_a_killed_shard_is_seen_and_so_is_its_recovery(running: Running) -> None:
    async with shown(running.publish) as top:
        await top.eventually(lambda: {r.state for r in top.grid.rows} == {"live"})
        # A killed one may be back before the application asks again.
        shard = running.pid("shard 1")
        os.kill(shard, signal.SIGSTOP)
        await top.eventually(lambda: any(row.state == "stale" for row in top.grid.rows))
        await top.eventually(lambda: " X " in top.text)
        os.kill(shard, signal.SIGKILL)
        events = top.app.screen.query_one(Events)
        await top.eventually(lambda: any(e.kind == "restart" for e in events.picture.events))
        await top.eventually(lambda: {r.state for r in top.grid.rows} == {"live"})
        await top.eventually(lambda: _restarts(top, "shard 1") == 1)


def _restarts(top: Shown, name: str) -> int:
    processes = {p.name: p for p in top.app.picture.summary.processes}
    return processes[name].restarts


def _drawn_sequence(page: MarketPage) -> int:
    """Return the sequence of the book that a market's page shows; -1 before there is one."""
    _, _, told = plain(page.header.drawn[1]).partition("sequence ")
    number = told.split()[0].replace(",", "") if told.strip() else ""
    return int(number) if number.isdecimal() else -1


async def test_a_market_s_page_has_the_book_that_subscribers_have(running: Running) -> None:
    async with shown(running.publish) as top:
        await top.eventually(lambda: top.grid.rows)
        busiest = max(top.grid.rows, key=lambda row: row.trades)
        await top.press("/", *busiest.symbol, "enter", "enter")
        page = top.app.screen
        assert isinstance(page, MarketPage)
        symbol = busiest.symbol
        assert page.row.symbol == symbol
        tops: dict[int, tuple[str, str]] = {}
        following = asyncio.create_task(_best_by_sequence(running.publish, symbol, tops))
        # The page must be at a book that the other reader had as well.
        await top.eventually(
            lambda: tops and "spread" in top.text and page.fills and _drawn_sequence(page) in tops
        )
        await top.press("p")
        drawn = [plain(line) for line in page.ladder.drawn]
        place = next(i for i, line in enumerate(drawn) if line.startswith(" spread"))
        best = (drawn[place + 1].split()[0], drawn[place - 1].split()[0])
        sequence = _drawn_sequence(page)
        await top.eventually(lambda: sequence in tops)
        following.cancel()
        assert best == tops[sequence]
        await top.press("p", "escape", "escape", "home", "enter")
        other = top.app.screen
        assert isinstance(other, MarketPage)
        await top.press("right")
        await top.eventually(lambda: other.book is not None)
        await top.press("escape")
        assert top.grid.cursor == 1
        assert top.grid.chosen == other.row.market_id


async def _best_by_sequence(publish: str, symbol: str, tops: dict[int, tuple[str, str]]) -> None:
    """Note the best bid and ask after each change of a market's book."""
    with Subscriber(publish, markets=[symbol], channels=["book"], keep_books=True) as subscriber:
        async for _ in subscriber:
            book = subscriber.book(symbol)
            if book is not None:
                bids, asks = book.levels()
                tops[book.sequence] = (trim(bids[0][0]), trim(asks[0][0]))


async def test_an_aggregator_that_does_not_answer_is_told_and_its_return_too(
    running: Running,
) -> None:
    async with shown(running.publish) as top:
        await top.eventually(lambda: top.grid.rows)
        aggregator = running.pid("aggregator")
        os.kill(aggregator, signal.SIGSTOP)
        try:
            await top.eventually(lambda: "NO ANSWER" in top.text)
            assert top.grid.rows, "what was known stays"
        finally:
            os.kill(aggregator, signal.SIGCONT)
        await top.eventually(lambda: "NO ANSWER" not in top.text)
        os.kill(aggregator, signal.SIGKILL)
        await top.eventually(lambda: running.pid("aggregator") not in (0, aggregator))
        await top.eventually(
            lambda: (
                top.app.picture.silent_since is None and top.app.picture.summary.publisher_epoch > 1
            )
        )


async def test_without_a_collector_it_waits_for_one() -> None:
    endpoint = f"tcp://127.0.0.1:{free_port_pair()}"
    async with shown(endpoint) as top:
        await top.eventually(lambda: f"NO ANSWER from {endpoint} since" in top.text)
        await top.press("enter", "down", "s", "e", "escape")
        assert "Is a collector running" in top.text


async def test_a_refusal_is_shown_and_ends_nothing() -> None:
    with refusing("'events' shows all markets, and this key may not") as endpoint:
        async with shown(endpoint, size=(160, 24)) as top:
            await top.eventually(lambda: "this key may not" in top.text)
            await top.press("s", "e", "escape")
            assert f"NO ANSWER from {endpoint} since" in top.text


async def test_several_cells_are_shown_beside_each_other(running: Running) -> None:
    away = f"tcp://127.0.0.1:{free_port_pair()}"
    async with shown(f"{running.publish},{away}", size=(120, 40)) as top:
        await top.eventually(lambda: "Cells: 1 of 2 answer" in top.text)
        await top.eventually(lambda: f"{away}" in top.text and "NO ANSWER" in top.text)
        assert f"▸ {running.publish}" in top.text
        await top.eventually(lambda: "300/300 live" in top.text)
        await top.pilot.press("c")
        await top.eventually(lambda: f"▸ {away}" in top.text)
        await top.pilot.press("c")
        await top.eventually(lambda: f"▸ {running.publish}" in top.text)
        # A market's page reads both: the first copy of each fact counts.
        await top.pilot.press("enter")
        await top.eventually(lambda: isinstance(top.app.screen, MarketPage))
        page = top.app.screen
        assert isinstance(page, MarketPage)
        await top.eventually(lambda: page.book is not None)
