"""
A third exchange is recorded, sealed, read and replayed; its trades have no numbers.

The recorder and its sealing child are processes of the program, which do not know the adapter.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collector import Subscriber, Trades
from collector.archive.reading.book_at import book_at
from collector.archive.reading.overview import overview
from collector.archive.reading.tables import read
from collector.markets.discovery import discover
from shards.adapters import registry
from shards.protocol.settings import Endpoints
from tests.collector.archive.replay.test_replay import Replayed, events
from tests.system.recorders import record, sealed_through
from tests.system.running import eventually
from tests.toy import exchange
from tests.toy.adapter import PLACE
from tests.toy.exchange import Exchange
from tests.toy.processes import collecting

_SPAN = 50


@pytest.fixture(autouse=True)
def _registered() -> None:
    registry.register("toy", PLACE)


@pytest.fixture
async def toy() -> AsyncIterator[Exchange]:
    async with Exchange() as running:
        yield running


async def _recorded(toy: Exchange, folder: Path) -> Path:
    """Record two parts from their first height on."""
    endpoints = Endpoints(others={"toy": (toy.endpoint,)})
    markets = await asyncio.to_thread(discover, endpoints)
    root = folder / "archive"
    with collecting(endpoints, markets, folder) as publish:
        recorder = record(root, publish, span=_SPAN)
        try:
            await asyncio.to_thread(_await_parts, root)
        finally:
            recorder.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(recorder.wait, 30) == 0
    return root


def _await_parts(root: Path) -> None:
    eventually(lambda: sealed_through(root) > 0, within_s=90, every_s=0.2)
    through = sealed_through(root) + 2 * _SPAN
    eventually(lambda: sealed_through(root) >= through, within_s=90, every_s=0.2)


async def test_trades_without_numbers_are_recorded_sealed_read_and_replayed(
    toy: Exchange, tmp_path: Path
) -> None:
    root = await _recorded(toy, tmp_path)
    found = overview(root)
    assert found.last - found.first >= 2 * _SPAN - 1
    assert all(day.is_whole for day in found.days)
    names = [
        name for batch in range(found.first, found.last + 1) for name in exchange.trades_of(batch)
    ]

    table = read(root, "trades", start=found.first, end=found.last, holes="raise").arrow
    assert table["trade_id"].to_pylist() == names
    assert table["n"].null_count == len(names)
    assert set(table["source"].to_pylist()) == {"toy", "replay"}
    at = found.first + _SPAN
    whole = book_at(root, "TOY-CASH", at)
    levels = dict(exchange.levels_after(at))
    assert {f"{price:f}": f"{size:f}" for price, size in whole.bids}.items() >= levels.items()

    assert await asyncio.to_thread(_replayed, root, found.last) == names


def _replayed(root: Path, last: int) -> list[str]:
    """Return the ids of the trades that a replay publishes, in their order."""
    names: list[str] = []
    with Replayed(root, speed=0.0) as replay, Subscriber(replay.publish) as subscriber:
        for received in events(subscriber, last):
            if isinstance(received.event, Trades):
                names += [trade.trade_id for trade in received.event.trades]
    return names
