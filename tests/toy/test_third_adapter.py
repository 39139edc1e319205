"""
A third adapter is one folder and one line of the registry: this one's is collected end to end.

Real sockets and processes: the exchange, a shard, the aggregator, a subscriber.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collector import Book, Subscriber, Trades
from collector.markets import networks
from collector.markets.assessment import assess
from collector.markets.discovery import discover
from shards.adapters import registry
from shards.net.access import Access
from shards.protocol.events import Gap
from shards.protocol.order_book import OrderBook
from shards.protocol.settings import Endpoints
from tests.toy import exchange
from tests.toy.adapter import PLACE
from tests.toy.exchange import Exchange
from tests.toy.processes import collecting

BATCHES = 100


@pytest.fixture(autouse=True)
def _registered() -> None:
    registry.register("toy", PLACE)


@pytest.fixture
async def toy() -> AsyncIterator[Exchange]:
    async with Exchange() as running:
        yield running


async def test_everything_of_a_third_exchange_arrives_once_and_in_order(
    toy: Exchange, tmp_path: Path
) -> None:
    endpoints = Endpoints(others={"toy": (toy.endpoint,)})
    networks.check(endpoints, "toy")
    assert registry.preferred(endpoints).name == "toy"
    markets = await asyncio.to_thread(discover, endpoints)
    assert [market.symbol for market in markets] == ["TOY-CASH"]
    assert assess(endpoints, Access(endpoints), markets) == {}
    trades: list[tuple[int, str, str]] = []
    sequences: list[int] = []
    gaps: list[str] = []
    book = OrderBook("")
    with collecting(endpoints, markets, tmp_path) as publish:
        async with asyncio.timeout(60):
            with Subscriber(publish) as subscriber:
                async for received in subscriber:
                    event = received.event
                    if isinstance(event, Trades):
                        trades += [(event.height, event.source, t.trade_id) for t in event.trades]
                    elif isinstance(event, Book) and event.is_snapshot:
                        book.load(event.sequence, event.bids, event.asks)
                        sequences.append(event.sequence)
                    elif isinstance(event, Book):
                        book.apply(event.sequence, event.bids, event.asks)
                        sequences.append(event.sequence)
                    elif isinstance(event, Gap):
                        gaps.append(event.state)
                    if len(sequences) >= BATCHES and gaps[-1:] == ["closed"]:
                        break
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    names = [name for _, _, name in trades]
    assert len(names) == len(set(names)), "each trade once, though some are sent twice"
    first, last = trades[0][0], trades[-1][0]
    due = [name for batch in range(first, last) for name in exchange.trades_of(batch)]
    assert set(due) <= set(names), "none is missing"
    assert {source for _, source, _ in trades} == {"toy", "replay"}
    assert set(toy.asked_again) == {n for n in toy.asked_again if n % 40 == exchange.LEFT_OUT}
    assert dict(exchange.levels_after(book.sequence)).items() <= book.bids.items()
