"""
Source ``indexer-grpc``: the indexer's streams, one call per market for books and one for trades.

The calls are distributed over connections, below any server's limit of streams per connection. If
a limit is lower, that is detected (connection.py) and later connections to that endpoint carry
fewer. A stream that ends affects only its market. The endpoint is abandoned when none of its
connections gets an answer and no stream receives anything.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from shards.adapters.injective_indexer.connection import OWN, Connection, probe
from shards.adapters.injective_indexer.decoder import (
    BOOK,
    DERIVATIVE_PROBE,
    PARTS,
    SPOT_PROBE,
    TRADES,
    Stream,
    streams_of,
)
from shards.adapters.injective_indexer.service import Service
from shards.adapters.interface import Sink
from shards.adapters.reconnecting import Reconnecting
from shards.net.access import Access
from shards.protocol.errors import SourceError
from shards.protocol.events import Cause
from shards.protocol.settings import Limits, Market

log = logging.getLogger(__name__)

_PART: Final[Mapping[Stream, int]] = {"book": BOOK, "trades": TRADES}
_REFUSED_S: Final = 3.0
"""An endpoint that refuses for this long is abandoned."""
_SILENT_S: Final = 10.0
"""An endpoint that does not answer for this long is abandoned."""


class IndexerGrpc(Reconnecting):
    """Manages the connections of a shard."""

    def __init__(
        self,
        endpoints: Sequence[str],
        markets: Iterable[Market],
        sink: Sink,
        access: Access,
        *,
        channels: Sequence[str],
        limits: Limits,
    ) -> None:
        super().__init__("indexer-grpc", endpoints, sink)
        self.services = {spot: Service(spot=spot) for spot in (True, False)}
        self._markets: dict[str, Market] = {}
        self._access = access
        self._limits = limits
        self._streams = streams_of(channels)
        self._learnt: dict[str, int] = {}
        """By endpoint, if its limit of streams is lower than ours."""
        self._numbers = 0
        self._probes: dict[bool, int] = {}
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._place_of: dict[str, Connection] = {}
        self._tasks: asyncio.TaskGroup
        self._ended: asyncio.Future[SourceError] | None = None
        self._good_at = 0.0
        self._heard = 0
        self.cuts = 0
        """Streams that have ended, not by us: another server may answer now."""
        self._vetted = 0
        """The cuts before the endpoint was last vetted."""
        self._vetting = asyncio.Lock()
        self.add(markets)

    # ---- which markets --------------------------------------------------------------

    def add(self, markets: Iterable[Market]) -> None:
        """Collect more markets without disturbing the others; may be called before `run`."""
        for market in markets:
            self._markets[market.market_id] = market
            if self._ended is not None:
                self._place(market)

    def remove(self, market_ids: Iterable[str]) -> None:
        """Stop collecting markets without disturbing the others; may be called before `run`."""
        for market_id in market_ids:
            self._markets.pop(market_id, None)
            connection = self._place_of.pop(market_id, None)
            if connection is not None:
                connection.remove(market_id)

    def resubscribe(self, market_id: str) -> None:
        """Reopen a market's streams on a different connection."""
        market = self._markets.get(market_id)
        if market is None or self._ended is None:
            return
        connection = self._place_of.pop(market_id, None)
        if connection is not None:
            connection.remove(market_id)
        self._place(market, avoid=connection)

    def _place(self, market: Market, avoid: Connection | None = None) -> None:
        """Assign a market to a connection with room, or to a new one."""
        service = self.services[market.type == "spot"]
        room = self._per_connection() - len(self._streams)
        for connection in self._connections:
            if (
                connection.is_open
                and connection is not avoid
                and connection.service is service
                and connection.size <= room
            ):
                break
        else:
            connection = self._connect(service)
        self._place_of[market.market_id] = connection
        connection.add(market.market_id)

    def _per_connection(self) -> int:
        most = self._limits.streams_per_connection
        return max(len(self._streams), self._learnt.get(self.endpoints.current, most))

    def _connect(self, service: Service) -> Connection:
        connection = Connection(
            self.endpoints.current,
            service,
            self,
            self._sink,
            self._access,
            self._limits,
            streams=self._streams,
            probe=self._probes[service.spot],
        )
        task = self._tasks.create_task(connection.run())
        self._connections[connection] = task
        task.add_done_callback(lambda _: self._connections.pop(connection, None))
        return connection

    # ---- life -----------------------------------------------------------------------

    async def _session(self, endpoint: str) -> None:
        self._good_at = time.monotonic()
        self._vetted = self.cuts
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._ended = asyncio.get_running_loop().create_future()
            returning = tasks.create_task(self._look_for_better(endpoint))
            try:
                self._begin()
                error = await self._ended
            finally:
                self._ended = None
                returning.cancel()
                self._place_of.clear()
                for connection, task in list(self._connections.items()):
                    connection.close()
                    task.cancel()
        raise error

    async def _look_for_better(self, endpoint: str) -> None:
        """On a fallback endpoint: return to the preferred one as soon as it answers."""
        while True:
            await asyncio.sleep(self._limits.return_s)
            better = self.endpoints.preferred()
            market = next(iter(self._markets.values()), None)
            if better is None or market is None:
                continue
            service = self.services[market.type == "spot"]
            async with self._access.open_channel(better, options=OWN) as channel:
                try:
                    await probe(self._access, better, service, channel, [market.market_id])
                except SourceError as error:
                    self.endpoints.probed(better, error.reason)
                    continue
            self.endpoints.probed(better)
            log.info("indexer-grpc %s answers again: leaving %s", better, endpoint)
            self.endpoints.leave()
            self.reconnect("disconnect", f"returning to {better}")

    def _begin(self) -> None:
        """Subscribe to everything."""
        for spot, part in ((True, SPOT_PROBE), (False, DERIVATIVE_PROBE)):
            self._numbers += 1
            self._probes[spot] = self._numbers * PARTS + part
            self._sink.subscribed(self._probes[spot], ())
        for market in self._markets.values():
            self._place(market)

    def reconnect(self, cause: Cause, reason: str) -> None:
        """Close all connections; `run` opens new ones."""
        self._leave(cause, SourceError(self.endpoints.current, reason))

    def _leave(self, cause: Cause, error: SourceError) -> None:
        if self._ended is not None and not self._ended.done():
            self._cause = cause
            self._ended.set_result(error)

    # ---- what its connections ask (indexer_connection.Owner) -------------------------

    def number(self, stream: Stream) -> int:
        """Return a new subscription's number."""
        self._numbers += 1
        return self._numbers * PARTS + _PART[stream]

    def answered(self, connection: Connection) -> None:
        """A probe was answered."""
        self._good_at = time.monotonic()
        self.endpoints.succeeded()

    def cut(self) -> None:
        """A stream has ended."""
        self.cuts += 1

    async def vet(self) -> bool:
        """Return whether streams may be opened: if some have ended, only once the chain is known."""
        async with self._vetting:
            if self.guard is None or self._vetted == self.cuts:
                return True
            cuts = self.cuts
            try:
                await self.guard.admit(self.endpoints.current)
            except SourceError as error:
                self._leave("disconnect", error)
                return False
            self._vetted = cuts
        return True

    async def judge(self, connection: Connection, error: SourceError) -> bool:
        """A probe failed: return whether to keep the connection."""
        silent = error.status == "DEADLINE_EXCEEDED"
        if silent and connection.size and await self._answers_elsewhere(connection):
            if connection.is_waiting and connection.size > len(self._streams):
                self._learn(connection)
            self._replace(connection)
            return False
        heard = sum(one.heard for one in self._connections)
        now = time.monotonic()
        if heard != self._heard:
            self._heard = heard
            self._good_at = now
        if now - self._good_at > (_SILENT_S if silent else _REFUSED_S):
            self._leave("disconnect", error)
        return True

    def _replace(self, connection: Connection) -> None:
        """Close a connection and move its markets to others."""
        unopened = [market_id for market_id, calls in connection.markets.items() if not calls]
        for number in connection.close():
            self._sink.lost(number, "mute", "its connection gets no answer")
        for market_id in unopened:
            if market_id in self._markets:
                self._place(self._markets[market_id])

    async def _answers_elsewhere(self, connection: Connection) -> bool:
        """Send the same query on a new connection."""
        endpoint, service = connection.endpoint, connection.service
        async with self._access.open_channel(endpoint, options=OWN) as channel:
            try:
                await probe(self._access, endpoint, service, channel, list(connection.markets))
            except SourceError:
                return False
        return True

    def _learn(self, connection: Connection) -> None:
        """The server's limit of streams is lower than this connection's number."""
        fewer = max(len(self._streams), connection.size // 2)
        if fewer < self._per_connection():
            self._learnt[connection.endpoint] = fewer
            log.warning(
                "%s serves fewer than %d streams per connection: using %d from now on",
                connection.endpoint,
                connection.size + 1,
                fewer,
            )
