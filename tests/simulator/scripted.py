"""What the tests of faults share: an exchange made by hand, and a client that remembers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from picows import WSMsgType

from shards.adapters.injective_chain import ws_decoder
from shards.net import websocket
from shards.protocol.events import Block
from tests.simulator import faults
from tests.simulator.exchange import Activity
from tests.simulator.listening import EVERYTHING, subscribe
from tests.simulator.markets import ALL_BUSY
from tests.simulator.venue import Options, Venue

BUSY = Options(markets=6, activity=Activity(touched=1.0, matches=2.0, shares=ALL_BUSY), buffer=10)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for something of the servers' that nothing announces."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)


class Client:
    """A WebSocket client that keeps what it hears, decoded."""

    def __init__(self, transport: Any, listener: websocket.Listener) -> None:
        self.transport = transport
        self.listener = listener
        self.heard: list[tuple[int, Any]] = []
        self.news = asyncio.Event()

    def send(self, request: Any) -> None:
        self.transport.send(WSMsgType.TEXT, msgspec.json.encode(request))

    def heights(self, request_id: int) -> list[int]:
        """Return the heights that a subscription heard, in the order of hearing."""
        return [b.height for i, b in self.heard if i == request_id and isinstance(b, Block)]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something to be true of what was heard."""
        async with asyncio.timeout(60):
            while not condition():
                self.news.clear()
                await self.news.wait()


@contextlib.asynccontextmanager
async def listening(venue: Venue, *subscriptions: Any) -> AsyncIterator[Client]:
    """Connect and subscribe: to everything, or to each market named, from request id 1 on."""
    pending: list[Client] = []

    def receive(payload: memoryview | bytes, ts_recv: int, last: bool) -> None:
        pending[0].heard.append(ws_decoder.decode(payload))
        pending[0].news.set()

    client = Client(*await websocket.connect(venue.ws.url, receive))
    pending.append(client)
    for number, filters in enumerate(subscriptions or (EVERYTHING,), start=1):
        client.send(subscribe(number, f"s{number}", filters))
    await client.until(lambda: len(client.heard) == max(len(subscriptions), 1))
    try:
        yield client
    finally:
        client.transport.disconnect(graceful=False)


def one_market(venue: Venue, number: int) -> Any:
    """Return the filter of one spot market's book."""
    return {"spot_orderbooks_filter": {"market_ids": [venue.exchange.markets[number].market_id]}}


async def blocks(venue: Venue, number: int) -> None:
    """Make so many blocks."""
    for _ in range(number):
        await venue.make_block()


HEARD: list[tuple[faults.Fault, list[int]]] = [
    (faults.Gap(after=1, blocks=2), [1, 4, 5, 6]),
    (faults.HeightJump(after=2, blocks=3), [1, 2, 6]),
    (faults.Duplicate(after=1, blocks=2), [1, 2, 2, 3, 3, 4, 5, 6]),
    (faults.Reorder(after=2), [1, 2, 4, 3, 5, 6]),
    (faults.Reorder(after=0, blocks=3), [2, 1, 4, 3, 5, 6]),
    (faults.Stall(after=1, blocks=3), [1, 2, 3, 4, 5, 6]),
    (faults.Late(behind=2), [1, 2, 3, 4]),
    (faults.ClockSkew(), [1, 2, 3, 4, 5, 6]),
]
