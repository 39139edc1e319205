"""The toy exchange's adapter: everything that the program knows of it."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shards.adapters.interface import (
    Adapter,
    MarketList,
    Recovery,
    RecoveryContext,
    Sink,
    Source,
)
from shards.adapters.reconnecting import Reconnecting
from shards.core.blocks import Blocks, block_pipeline
from shards.core.pipeline import Pipeline
from shards.core.record_builder import NeedReplay, NeedSnapshot
from shards.protocol.errors import SourceError
from shards.protocol.events import Block, BookUpdate, Cause, Confirmed, Snapshot, Trade
from shards.protocol.ledger import MarketLedger
from shards.protocol.settings import Market, ShardConfig
from shards.protocol.trade_ids import TradeIdentity

if TYPE_CHECKING:
    from shards.net.access import Access

PLACE = "tests.toy.adapter:Toy"
"""Its line in the registry."""
ONE = "1.000000000000000000"


def block(message: dict[str, Any], market_id: str) -> Block:
    trades = [
        (market_id, Trade(name, "buy", ONE, ONE, ONE, "Market", "", "", ""))
        for name in message["trades"]
    ]
    bids = [(price, size) for price, size in message["bids"]]
    update = BookUpdate(market_id, message["sequence"], bids, [])
    return Block(message["batch"], message["batch"] * 1_000_000, trades, [update])


def decode(payload: bytes | memoryview, subscription: int = 0) -> tuple[int, Block | Confirmed]:
    message = json.loads(bytes(payload))
    if "accepted" in message:
        return message["for"], Confirmed()
    return message["for"], block(message, "toy-1")


async def ask(endpoint: str, question: dict[str, Any]) -> Any:
    host, _, port = endpoint.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except OSError as error:
        raise SourceError(endpoint, str(error)) from None
    writer.write(json.dumps(question).encode() + b"\n")
    with contextlib.closing(writer):
        return json.loads(await reader.readline())


class ToySource(Reconnecting):
    """One connection; one market on it."""

    def __init__(self, config: ShardConfig, sink: Sink) -> None:
        super().__init__("toy", config.endpoints.of("toy"), sink)
        self._markets = {market.market_id for market in config.markets}
        self._numbers = 0
        self._writer: asyncio.StreamWriter | None = None

    async def _session(self, endpoint: str) -> None:
        host, _, port = endpoint.rpartition(":")
        try:
            reader, self._writer = await asyncio.open_connection(host, int(port))
            for market_id in self._markets:
                self.resubscribe(market_id)
            while line := await reader.readline():
                self._sink.receive(line, time.time_ns(), True)
        except OSError as error:
            raise SourceError(endpoint, str(error)) from None
        raise SourceError(endpoint, "closed")

    def add(self, markets: Iterable[Market]) -> None:
        for market in markets:
            self._markets.add(market.market_id)
            self.resubscribe(market.market_id)

    def remove(self, market_ids: Iterable[str]) -> None:
        self._markets.difference_update(market_ids)

    def resubscribe(self, market_id: str) -> None:
        if self._writer is not None:
            self._numbers += 1
            self._sink.subscribed(self._numbers, (market_id,))
            self._writer.write(json.dumps({"subscribe": self._numbers}).encode() + b"\n")

    def reconnect(self, cause: Cause, reason: str) -> None:
        if self._writer is not None:
            self._writer.close()


class ToyRecovery:
    """Books and lost batches, one after the other."""

    halted = False
    waiting = 0
    nodes = None

    def __init__(self, parts: RecoveryContext) -> None:
        self._parts = parts
        self._pipeline: Pipeline[Blocks] = parts.pipeline
        self._endpoint = parts.config.endpoints.of("toy")[0]
        self._due = asyncio.Event()

    def dispatch(self) -> None:
        for request in self._pipeline.take_requests():
            if isinstance(request, NeedSnapshot):
                self._parts.tasks.create_task(self._fetch_book(request.market_id))
            elif isinstance(request, NeedReplay):
                self._due.set()
            else:
                self._parts.source.resubscribe(request.market_id)

    async def _fetch_book(self, market_id: str) -> None:
        while self._pipeline.wants_snapshot(market_id):
            found = await ask(self._endpoint, {"book": market_id})
            bids = [(price, size) for price, size in found["bids"]]
            book = Snapshot(market_id, found["batch"], found["sequence"], bids, [])
            self._pipeline.join(book, time.time_ns())
            self._parts.push_new()
            await asyncio.sleep(0.05)

    async def run(self) -> None:
        blocks = self._pipeline.liveness
        while True:
            await self._due.wait()
            self._due.clear()
            while heights := blocks.due_replays(1):
                found = await ask(self._endpoint, {"again": heights[0]})
                blocks.replay(heights[0], block(found, "toy-1"), time.time_ns())
                self._parts.push_new()

    async def aclose(self) -> None:
        """Nothing stays open."""


class Toy(Adapter):
    """The toy exchange."""

    name = "toy"
    promises = {"book": "every change of every batch", "trades": "every trade once, by its name"}  # noqa: RUF012
    trade_identity = TradeIdentity.ID
    origins = frozenset({"toy"})
    stream = listing = "toy"
    needs = frozenset({"toy"})

    def open_source(self, config: ShardConfig, sink: Sink, access: "Access") -> Source:
        return ToySource(config, sink)

    def new_pipeline(
        self,
        config: ShardConfig,
        source: Any,
        markets: Sequence[Market],
        ledgers: Mapping[str, MarketLedger],
    ) -> Pipeline[Blocks]:
        return block_pipeline(
            markets,
            source=self.name,
            decoder=decode,
            trade_identity=self.trade_identity,
            limits=config.limits,
            channels=config.channels,
            ledgers=ledgers,
        )

    def open_recovery(self, parts: RecoveryContext) -> Recovery:
        return ToyRecovery(parts)

    def list_markets(self, endpoint: str, access: "Access") -> MarketList:
        host, _, port = endpoint.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b'{"markets": true}\n')
            listed = json.loads(connection.makefile().readline())["markets"]
        return MarketList([Market(one["id"], one["name"], "", "spot") for one in listed])
