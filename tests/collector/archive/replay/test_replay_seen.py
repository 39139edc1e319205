"""`top` and the web page in front of a replay: what they show of a live collector."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.tui.market_screen import MarketPage
from tests.collector.archive.replay.test_replay import Replayed
from tests.collector.archive.written import SYMBOL, sealed
from tests.collector.web.browser import DESKTOP, chromium
from tests.collector.web.serving import dashboard
from tests.simulator.test_top import shown

_LIVE = (
    "document.querySelectorAll('#grid a').length === 1 && "
    "document.querySelector('#grid a').dataset.state === 'live'"
)
_BEST_ASK = "1001"
"""The lowest of the asks that were ever placed, and none is taken."""


@pytest.fixture
def replayed(tmp_path: Path) -> Iterator[Replayed]:
    """Five minutes of one market, replayed as they were."""
    sealed(tmp_path / "archive", 101, 699)
    with Replayed(tmp_path / "archive", speed=1.0) as running:
        yield running


async def test_top_shows_its_market_its_trades_and_its_book(replayed: Replayed) -> None:
    async with shown(replayed.publish, size=(120, 40)) as top:
        await top.eventually(lambda: [row.symbol for row in top.grid.rows] == [SYMBOL])
        await top.eventually(lambda: {row.state for row in top.grid.rows} == {"live"})
        assert "1 of 1 live" in top.text
        await top.eventually(lambda: "every 0.50 s" in top.text)
        trades = top.grid.rows[0].trades
        await top.eventually(lambda: top.grid.rows[0].trades > trades)
        await top.press("enter")
        assert isinstance(top.app.screen, MarketPage)
        await top.eventually(lambda: _BEST_ASK in top.text)
        assert SYMBOL in top.text


def test_the_page_shows_its_market_and_its_book(replayed: Replayed, tmp_path: Path) -> None:
    with chromium(tmp_path / "chromium") as page, dashboard(tmp_path, replayed.publish) as served:
        page.resize(DESKTOP)
        page.open(served.url)
        page.until(_LIVE)
        updates = "Number(document.body.dataset.updates)"
        before = page.run(f"return {updates}")
        page.until(f"{updates} > {before} + 1")
        page.run("document.querySelector('#grid a').click()")
        page.until("document.body.innerText.includes('1,001')")
        assert SYMBOL in str(page.run("return document.body.innerText"))
        assert page.complaints() == []
