"""
One connection to the indexer: the streams of some markets, and a probe that verifies them.

The stream of a quiet market is silent, so silence does not show whether it works; and calls
beyond the server's limit of streams per connection wait silently. A server admits the calls of a
connection in order. If a query made after the streams is answered, all of them were admitted.
That query is the probe. It returns the sequences of the books, which distinguishes a quiet stream
from a dead one. If it gets no answer while the same query works on another connection, this
connection is full or dead.
"""

import asyncio
import logging
import time
from typing import Any, Final, Protocol

import grpc.aio

from shards.adapters.injective_indexer.decoder import Stream
from shards.adapters.injective_indexer.service import Service
from shards.adapters.interface import Sink
from shards.net.access import Access
from shards.protocol.errors import SourceError
from shards.protocol.settings import Limits

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S: Final = 4.0
OWN: Final = (("grpc.use_local_subchannel_pool", 1),)
"""Without this, channels with equal options share one connection and its limit of streams."""
_OPTIONS: Final = (
    *OWN,
    # The probes detect a dead peer sooner; pings keep middleboxes from dropping the connection.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class Owner(Protocol):
    """What a connection needs from the source that owns it."""

    def number(self, stream: Stream) -> int:
        """Return a new subscription's number."""

    def answered(self, connection: "Connection") -> None:
        """A probe was answered."""

    def cut(self) -> None:
        """A stream has ended, not by us."""

    async def vet(self) -> bool:
        """Return whether streams may be opened; False: the endpoint is being left."""

    async def judge(self, connection: "Connection", error: SourceError) -> bool:
        """A probe failed: return whether to keep the connection."""


class Connection:
    """A separate channel; markets are added and removed while it runs."""

    def __init__(
        self,
        endpoint: str,
        service: Service,
        owner: Owner,
        sink: Sink,
        access: Access,
        limits: Limits,
        *,
        streams: tuple[Stream, ...],
        probe: int,
    ) -> None:
        """``streams`` are the kinds per market, ``probe`` is the subscription of the answers."""
        self.endpoint = endpoint
        self.service = service
        self.markets: dict[str, dict[int, Any]] = {}
        """Per market id its calls, by subscription; empty until they are opened."""
        self.heard = 0
        """Stream messages received."""
        self._owner = owner
        self._sink = sink
        self._access = access
        self._limits = limits
        self._streams = streams
        self._probe_id = probe
        self._channel = access.open_channel(endpoint, options=_OPTIONS)
        self._unconfirmed: set[int] = set()
        self._news = asyncio.Event()
        self._tasks: asyncio.TaskGroup
        self._readers: set[asyncio.Task[None]] = set()
        self.is_open = True

    @property
    def size(self) -> int:
        """Number of streams, open or about to be opened."""
        return len(self.markets) * len(self._streams)

    @property
    def is_waiting(self) -> bool:
        """Whether some streams are not yet known to be served."""
        return bool(self._unconfirmed)

    # ---- which markets --------------------------------------------------------------

    def add(self, market_id: str) -> None:
        """Open a market's streams as soon as it is their turn."""
        self.markets[market_id] = {}
        self._news.set()

    def remove(self, market_id: str) -> None:
        """End a market's streams; the last one closes the connection."""
        for number, call in self.markets.pop(market_id, {}).items():
            self._unconfirmed.discard(number)
            call.cancel()
        if not self.markets:
            self.close()

    def close(self) -> list[int]:
        """End all streams; return their subscriptions."""
        self.is_open = False
        self._news.set()
        numbers = [number for calls in self.markets.values() for number in calls]
        for calls in self.markets.values():
            for call in calls.values():
                call.cancel()
        self.markets = {}
        self._unconfirmed.clear()
        return numbers

    # ---- life -----------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until closed."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self._serve()
                for reader in self._readers:
                    reader.cancel()
        finally:
            self.close()
            await self._channel.close()

    async def _serve(self) -> None:
        # Until the server's limits are known, every call seems to be admitted.
        served = await self._prove()
        while self.is_open and self.markets:
            if served:
                if not all(self.markets.values()) and not await self._owner.vet():
                    return
                await self._open_streams()
                served = await self._prove()
                await self._pause(self._limits.probe_s)
            else:
                await asyncio.sleep(min(1.0, self._limits.probe_s))
                served = await self._prove()

    async def _pause(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._news.wait()
        except TimeoutError:
            return

    async def _open_streams(self) -> None:
        self._news.clear()
        for market_id, calls in list(self.markets.items()):
            if calls:
                continue
            for stream in self._streams:
                await self._access.turn(self.endpoint)
                if self.markets.get(market_id) is not calls:
                    # It was removed in the meantime.
                    break
                calls |= self._open(market_id, stream)

    def _open(self, market_id: str, stream: Stream) -> dict[int, Any]:
        number = self._owner.number(stream)
        metadata = self._access.metadata(self.endpoint)
        call = self.service.stream(self._channel, stream, market_id, metadata)
        self._sink.subscribed(number, (market_id,))
        self._unconfirmed.add(number)
        reader = self._tasks.create_task(self._read(call, market_id, number))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        return {number: call}

    async def _read(self, call: Any, market_id: str, number: int) -> None:
        receive = self._sink.receive
        try:
            async for payload in call:
                self.heard += 1
                receive(payload, time.time_ns(), True, number)
            reason = "the indexer ended the stream"
        except grpc.aio.AioRpcError as error:
            reason = f"{error.code().name} {error.details()}"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # With this, gRPC reports that the call was cancelled, by us or by the server.
            reason = "CANCELLED"
        if number in self.markets.get(market_id, {}):
            self._unconfirmed.discard(number)
            self._owner.cut()
            self._sink.lost(number, "disconnect", reason)

    # ---- the probe ------------------------------------------------------------------

    async def _prove(self) -> bool:
        """Probe; return whether it was answered."""
        opened = set(self._unconfirmed)
        market_ids = list(self.markets)
        if not market_ids:
            return False
        try:
            payload = await probe(
                self._access, self.endpoint, self.service, self._channel, market_ids
            )
        except SourceError as error:
            if self.is_open and not await self._owner.judge(self, error):
                self.close()
            return False
        ts_recv = time.time_ns()
        for number in opened & self._unconfirmed:
            self._unconfirmed.discard(number)
            self._sink.confirmed(number)
        self._sink.receive(payload, ts_recv, True, self._probe_id)
        self._owner.answered(self)
        return True


async def probe(
    access: Access,
    endpoint: str,
    service: Service,
    channel: grpc.aio.Channel,
    market_ids: list[str],
) -> bytes:
    """
    Query the sequences of some markets' books.

    Raises:
        SourceError: If there is no answer.

    """
    method, request = service.sequences(channel, market_ids)
    payload, _ = await access.query(endpoint, method, request, timeout_s=PROBE_TIMEOUT_S)
    return bytes(payload)
