"""One exchange, all its servers, and the clock that makes its blocks."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from tests.simulator import faults
from tests.simulator.exchange import Activity, Exchange, SimBlock
from tests.simulator.indexer_server import IndexerServer
from tests.simulator.markets import SimMarket
from tests.simulator.mischief import Mischief
from tests.simulator.query_server import QueryServer
from tests.simulator.rpc_server import RpcServer
from tests.simulator.stream_server import StreamServer
from tests.simulator.ws_server import WsServer

_MAX_STALL_S: Final = 0.05
_PAST: Final = 5
_FIRST: Final = 1_000


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to run an exchange."""

    seed: int = 1
    markets: int = 20
    activity: Activity = Activity()
    block_time_s: float = 0.65
    """Pace of the blocks; 0 for as fast as the sockets take them."""
    blocks: int = 0
    """Stop making blocks after so many; 0 for never."""
    wait_subscriptions: int = 0
    """Make no block before so many WebSocket subscriptions were made."""
    buffer: int = 100
    """Blocks a server queues for a slow reader before it evicts it."""
    indexer_lag_s: float = 0.0
    """How much later the indexer's streams tell a block."""
    indexer_streams: int = 0
    """The indexer's limit of streams on one connection; beyond it calls wait in silence."""
    history: int = 1_000
    """Blocks that can be asked for again."""
    chain_id: str = "injective-777"
    clock_ms: int = 0
    """When the block FIRST is due, and its time; two exchanges of one seed and one clock are two
    nodes of one chain. One that was halted catches up. 0: no clock but the pace."""


def describe(market: SimMarket) -> dict[str, Any]:
    """Say of a market what the devnet says of its own."""
    return {
        "market_id": market.market_id,
        "ticker": market.ticker,
        "type": market.type,
        "quiet": market.activity != "busy",
        "paused": market.status == "Paused",
    }


class Server(Protocol):
    """What a venue does with a server."""

    @property
    def protocol(self) -> str: ...

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def cut(self) -> None: ...


class Venue:
    """A running exchange."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.exchange = Exchange(
            options.seed,
            markets=options.markets,
            activity=options.activity,
            history=options.history,
            first_height=_FIRST,
        )
        self.mischief = Mischief()
        self.ws = WsServer(self.exchange, self.mischief, buffer=options.buffer)
        self.queries = QueryServer(self.exchange, self.mischief, options.chain_id)
        self.rpc = RpcServer(self.exchange, self.mischief, options.chain_id)
        self.stream = StreamServer(self.exchange, self.mischief, buffer=options.buffer)
        self.indexer = IndexerServer(self.exchange, self.mischief, lag_s=options.indexer_lag_s)
        self.indexer.streams_per_connection = options.indexer_streams
        self.servers: tuple[Server, ...] = (
            self.ws,
            self.stream,
            self.queries,
            self.rpc,
            self.indexer,
        )
        self.on_block: Callable[[SimBlock], None] = lambda block: None
        """Called with each block before it is sent."""
        self._halted_until = 0.0
        self._returning: set[asyncio.Task[None]] = set()
        self._kept: dict[int, socket.socket] = {}
        """Sockets that keep the ports of servers which are away: no other process is given them."""
        self._made = asyncio.Condition()
        self._begin()

    def _begin(self) -> None:
        """Give the chain a few blocks of past, so that there is something to ask for."""
        now_ms = time.time_ns() // 1_000_000
        block_ms = int((self.options.block_time_s or 0.65) * 1_000)
        for ago in range(_PAST, 0, -1):
            self.exchange.next_block(self._clock_ms() or now_ms - ago * block_ms)

    def _clock_ms(self) -> int:
        """Return when the next block is due by the clock, 0 without one."""
        options = self.options
        ahead = self.exchange.height + 1 - _FIRST
        return options.clock_ms and options.clock_ms + int(ahead * options.block_time_s * 1_000)

    def endpoints(self) -> dict[str, str]:
        """Say where everything listens, as the devnet does."""
        return {
            "chain_ws": self.ws.url,
            "chain_stream": self.stream.endpoint,
            "chain_grpc": self.queries.endpoint,
            "rpc": self.rpc.url,
            "indexer": self.indexer.endpoint,
        }

    def info(self) -> dict[str, Any]:
        """Describe the exchange to the process that started it."""
        markets = [describe(market) for market in self.exchange.markets]
        return {"endpoints": self.endpoints(), "seed": self.options.seed, "markets": markets}

    async def run(self) -> None:
        """Make blocks until the last; returns then, and never if there is none."""
        while self.ws.subscriptions < self.options.wait_subscriptions:
            self.ws.subscribed.clear()
            await self.ws.subscribed.wait()
        due = time.monotonic()
        made = 0
        while not self.options.blocks or made < self.options.blocks:
            due = await self._turn(due)
            await self.make_block()
            made += 1

    async def _turn(self, due: float) -> float:
        """Wait for the moment of the next block and return it."""
        if not self.options.block_time_s:
            await asyncio.sleep(0)
            await self._thawed()
            await self.ws.drained()
            await self.stream.drained()
            await self.indexer.drained()
            return due
        if clock_ms := self._clock_ms():
            await asyncio.sleep(max(0.0, clock_ms / 1_000 - time.time()))
            return await self._thawed() or due
        due = max(due + self.options.block_time_s, time.monotonic() - _MAX_STALL_S)
        await asyncio.sleep(due - time.monotonic())
        return await self._thawed() or due

    async def _thawed(self) -> float:
        """Wait while the chain is halted; return when that ended, 0 if it was not."""
        thawed = 0.0
        # In small steps: it may be healed meanwhile.
        while (pause_s := self._halted_until - time.monotonic()) > 0:
            await asyncio.sleep(min(pause_s, 0.05))
            thawed = time.monotonic()
        return thawed

    async def make_block(self) -> SimBlock:
        """Make one block now and send it to everyone."""
        block = self.exchange.next_block(self._clock_ms() or time.time_ns() // 1_000_000)
        self.on_block(block)
        self.ws.publish(block)
        self.stream.publish(block)
        self.indexer.publish(block)
        async with self._made:
            self._made.notify_all()
        return block

    async def begin_again(self, seed: int, away_s: float = 0.0, first: int = 1) -> None:
        """Be another chain on the same ports: everybody is cut, heights begin at `first`."""
        for server in self.servers:
            await server.stop()
        self._keep_ports()
        self._halted_until = time.monotonic() + away_s + 1.0
        await asyncio.sleep(away_s)
        self.exchange.begin_again(seed, first)
        self.exchange.next_block(time.time_ns() // 1_000_000)
        self.rpc.forget()
        for server in self.servers:
            await server.start()
        self._halted_until = 0.0

    async def reached(self, height: int) -> None:
        """Wait until a block was made."""
        async with self._made:
            await self._made.wait_for(lambda: self.exchange.height >= height)

    async def inject(self, fault: faults.Fault) -> None:
        """
        Put a fault in force.

        Raises:
            KeyError: If its market does not exist.

        """
        if isinstance(fault, faults.Delivery) and fault.market:
            market_id = self.exchange.market(fault.market).market_id
            fault = msgspec.structs.replace(fault, market=market_id)
        if isinstance(fault, faults.Halt):
            self._halted_until = time.monotonic() + fault.for_s
        elif isinstance(fault, faults.Stop):
            await self._stop(fault)
        elif isinstance(fault, faults.Disconnect):
            for server in self._concerned(fault.protocol):
                server.cut()
        else:
            self.mischief.add(fault, self.exchange.height)

    def heal(self) -> None:
        """End all faults."""
        self.mischief.clear()
        self._halted_until = 0.0

    def _concerned(self, protocol: str) -> list[Server]:
        return [server for server in self.servers if protocol in ("", server.protocol)]

    async def _stop(self, fault: faults.Stop) -> None:
        servers = self._concerned(fault.protocol)
        for server in servers:
            await server.stop()
        self._keep_ports()
        if fault.for_s:
            task = asyncio.create_task(self._return(servers, fault.for_s))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    def _keep_ports(self) -> None:
        for endpoint in self.endpoints().values():
            port = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").port or 0
            if port in self._kept:
                continue
            kept = socket.socket()
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                kept.bind(("127.0.0.1", port))
            except OSError:
                # Its server listens.
                kept.close()
            else:
                self._kept[port] = kept

    async def _return(self, servers: list[Server], after_s: float) -> None:
        await asyncio.sleep(after_s)
        for server in servers:
            await server.start()

    def is_whole(self) -> bool:
        """Say whether every server that was stopped for a while is back."""
        return not self._returning

    async def close(self) -> None:
        """Stop all servers."""
        for task in list(self._returning):
            task.cancel()
        for server in self.servers:
            await server.stop()
        for kept in self._kept.values():
            kept.close()


@contextlib.asynccontextmanager
async def running(options: Options | None = None, *, paced: bool = True) -> AsyncIterator[Venue]:
    """Run an exchange in this process; where it is not paced, `make_block` makes its blocks."""
    venue = Venue(options or Options())
    for server in venue.servers:
        await server.start()
    pace = asyncio.create_task(venue.run()) if paced else None
    try:
        yield venue
    finally:
        if pace is not None:
            pace.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pace
        await venue.close()
