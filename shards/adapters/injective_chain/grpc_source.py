"""
Source ``chain-grpc``: the chain stream over gRPC, for public endpoints and nodes without WebSocket.

One call carries all markets of the shard (``grouped``), or each market has its own call. A gRPC
message costs ten times a WebSocket message, so grouping is the default here. Each call receives
every block. If a server does not support v2, v1beta1 is used.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from shards.adapters.injective_chain.filters import filters
from shards.adapters.injective_chain.grpc_decoder import StreamDecoder
from shards.adapters.injective_chain.trial import TRY_S, ChainSource
from shards.adapters.interface import Sink
from shards.adapters.messages import INJECTIVE
from shards.net.access import Access
from shards.protocol.errors import DecodeError, SourceError
from shards.protocol.events import Block, Cause
from shards.protocol.settings import Market

log = logging.getLogger(__name__)

_OPTIONS: Final = (
    # Servers allow one ping per five minutes unless data flows; here data flows with each block.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A separate channel: we control the pace of reconnects.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

_ALL: Final = ""
"""Name of the call that carries a group."""
_NEXT: Final = "next"
"""Name of the call that will replace it."""
_PATIENCE: Final = 16
"""Blocks that a group's new call waits for the old call's; then the old one is dead."""


class _Reading:
    """One call delivering to the sink; a replacement waits until it can follow."""

    def __init__(self, call: Any, market_ids: Sequence[str]) -> None:
        self.call = call
        self.market_ids = market_ids
        self.subscription = 0
        """0 while it waits."""
        self.newest: bytes | None = None
        self.held: list[tuple[bytes, int]] = []


class ChainGrpc(ChainSource):
    """Manages the calls of a shard."""

    def __init__(
        self,
        endpoints: Sequence[str],
        markets: Sequence[Market],
        sink: Sink,
        *,
        channels: Sequence[str],
        return_s: float,
        grouped: bool = True,
        access: Access | None = None,
        path: int = 0,
        paths: int = 1,
    ) -> None:
        """
        ``path`` of ``paths`` sources that read the same markets: their subscriptions have different
        numbers, and the remainder names the path.
        """
        super().__init__("chain-grpc", endpoints, sink)
        self._markets = {market.market_id: market for market in markets}
        self._access = access or Access()
        self._channels = channels
        self._grouped = grouped
        self._return_s = return_s
        self._readings: dict[str, tuple[_Reading, asyncio.Task[None]]] = {}
        """By market id; grouped calls are under ""."""
        self._changed = asyncio.Event()
        self._ended: asyncio.Future[SourceError] | None = None
        self._ids, self._step = path, paths
        """The newest subscription, and the distance to the next."""
        self._use(2)

    def _use(self, version: int) -> None:
        """Use this version of the chain stream from now on."""
        self._version = version
        name, self._method = ("v2", "StreamV2") if version == 2 else ("v1beta1", "Stream")
        self._package = f"injective.stream.{name}"
        self._query: Any = INJECTIVE.package(self._package)
        self._decoder = self._new_decoder()

    def _new_decoder(self) -> StreamDecoder:
        units = list(self._markets.values()) if self._version == 1 else []
        return StreamDecoder(self._query.StreamResponse.FromString, units)

    def decode(self, payload: bytes | memoryview, subscription: int = 0) -> tuple[int, Block]:
        """Decode a payload with the version currently in use (pipeline.Decoder)."""
        return self._decoder.decode(payload, subscription)

    # ---- a session ------------------------------------------------------------------

    async def _session(self, endpoint: str) -> None:
        channel = self._access.open_channel(endpoint, options=_OPTIONS)
        stream = INJECTIVE.stub(f"{self._package}.Stream", channel).raw(self._method)
        self._ended = asyncio.get_running_loop().create_future()
        try:
            async with channel, asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._keep_reading(endpoint, stream))
                returning = self._look_for_better(endpoint, every_s=self._return_s)
                beside = tasks.create_task(returning)
                error = await self._ended
                keeping.cancel()
                beside.cancel()
        finally:
            # A finished call keeps its channel alive, which then reconnects needlessly; and
            # cancelled tasks keep the call until the next full collection.
            for reading, _ in self._readings.values():
                reading.call = None
            self._readings.clear()
        raise error

    @property
    def _has_markets(self) -> bool:
        return bool(self._markets)

    async def _try_out(self, endpoint: str, *, since: Callable[[], int]) -> Block:
        market_id = next(iter(self._markets))
        await self._access.turn(endpoint)
        async with self._access.open_channel(endpoint, options=_OPTIONS) as channel:
            stream = INJECTIVE.stub(f"{self._package}.Stream", channel).raw(self._method)
            metadata = self._access.metadata(endpoint)
            call = stream(self._request([market_id]), timeout=TRY_S, metadata=metadata)
            try:
                async for payload in call:
                    block = self.decode(payload)[1]
                    if block.height >= since():
                        return block
            except DecodeError as error:
                raise SourceError(endpoint, f"tried out: garbage: {error.reason}") from None
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    reason = f"tried out: no block at the head in {TRY_S:.0f} s"
                    raise SourceError(endpoint, reason) from None
                raise self._failed(endpoint, error) from None
        raise SourceError(endpoint, "tried out: the server ended the stream")

    async def _keep_reading(self, endpoint: str, stream: Any) -> None:
        """Maintain the calls that the markets need, also when these change; never returns."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                for name in self._due():
                    await self._access.turn(endpoint)
                    # They may have changed while we waited for our turn.
                    ids = list(self._markets) if self._grouped else [name]
                    if self._changed.is_set() or not ids:
                        break
                    metadata = self._access.metadata(endpoint)
                    reading = _Reading(stream(self._request(ids), metadata=metadata), ids)
                    if name != _NEXT:
                        self._take_over(reading)
                    reader = tasks.create_task(self._read(endpoint, reading))
                    self._readings[name] = reading, reader
                await self._changed.wait()

    def _due(self) -> list[str]:
        """
        Return the names of the calls to open.

        A group's call ends when the call for the current markets can follow it.
        """
        if not self._grouped:
            return list(self._markets.keys() - self._readings.keys())
        self._stop(_NEXT)
        if not self._markets:
            self._stop(_ALL)
            return []
        return [_NEXT if _ALL in self._readings else _ALL]

    def _stop(self, name: str) -> None:
        reading, task = self._readings.pop(name, (None, None))
        if reading is not None and task is not None:
            task.cancel()
            reading.call.cancel()

    async def _read(self, endpoint: str, reading: _Reading) -> None:
        sink = self._sink
        answered = False
        try:
            async for payload in reading.call:
                ts_recv = time.time_ns()
                if not answered:
                    answered = True
                    # It started before the payload; there is nothing to wait for.
                    self._access.answered(endpoint, await reading.call.initial_metadata())
                if not reading.subscription:
                    reading.held.append((payload, ts_recv))
                    self._try_to_follow()
                    continue
                if reading.newest is None:
                    sink.confirmed(reading.subscription)
                reading.newest = payload
                sink.receive(payload, ts_recv, True, reading.subscription)
                if _NEXT in self._readings:
                    self._try_to_follow()
            self._end(SourceError(endpoint, "the server ended the stream"))
        except DecodeError as error:
            self._cause = "garbage"
            self._end(SourceError(endpoint, f"garbage: {error.reason}"))
        except grpc.aio.AioRpcError as error:
            self._refused(endpoint, error)

    def _take_over(self, reading: _Reading) -> None:
        """From here on its markets are served by this call alone."""
        self._ids += self._step
        reading.subscription = self._ids
        self._sink.subscribed(self._ids, [m for m in reading.market_ids if m in self._markets])

    def _try_to_follow(self) -> None:
        """
        Let a group's new call take over once the old one has sent all earlier blocks.

        Both calls start and end between two blocks; blocks from both are deduplicated by height.
        """
        new, task = self._readings[_NEXT]
        if not new.held:
            return
        if _ALL in self._readings and len(new.held) < _PATIENCE:
            old, _ = self._readings[_ALL]
            first = self.decode(new.held[0][0])[1].height
            reached = self.decode(old.newest)[1].height if old.newest is not None else 0
            if reached < first - 1:
                return
        self._take_over(new)
        self._sink.confirmed(new.subscription)
        for payload, ts_recv in new.held:
            self._sink.receive(payload, ts_recv, True, new.subscription)
        new.newest = new.held[-1][0]
        new.held.clear()
        self._stop(_ALL)
        del self._readings[_NEXT]
        self._readings[_ALL] = new, task

    def _refused(self, endpoint: str, error: grpc.aio.AioRpcError) -> None:
        self._end(self._failed(endpoint, error))

    def _failed(self, endpoint: str, error: grpc.aio.AioRpcError) -> SourceError:
        """A call failed: read the older version where there is no newer one, and say what to raise."""
        if error.code() is grpc.StatusCode.UNIMPLEMENTED and self._version == 2:
            log.warning(
                "this server knows no chain stream v2: reading v1beta1, whose prices and "
                "quantities are cut to the tokens' smallest units"
            )
            self._use(1)
        return self._access.failed(endpoint, error)

    def _end(self, error: SourceError) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(error)

    def _request(self, market_ids: Sequence[str]) -> Any:
        request = self._query.StreamRequest()
        group = [self._markets[market_id] for market_id in market_ids]
        for name, lists in filters(group, self._channels).items():
            for field, values in lists.items():
                getattr(getattr(request, name), field).extend(values)
        return request

    # ---- which markets --------------------------------------------------------------

    def add(self, markets: Iterable[Market]) -> None:
        """Collect more markets: with a call each, or with a new call for all."""
        self._markets |= {market.market_id: market for market in markets}
        self._decoder = self._new_decoder()
        self._changed.set()

    def remove(self, market_ids: Iterable[str]) -> None:
        """Stop collecting some markets."""
        for market_id in market_ids:
            del self._markets[market_id]
            self._stop(market_id)
        self._changed.set()

    def resubscribe(self, market_id: str) -> None:
        """Reopen the call that carries this market."""
        # A group's new call has nothing to wait for: the old one is dead.
        self._stop(_ALL if self._grouped else market_id)
        self._changed.set()

    def reconnect(self, cause: Cause, reason: str) -> None:
        """Close the connection; `run` opens a new one."""
        if self._readings:
            self._cause = cause
            self._end(SourceError(self.endpoints.current, reason))
