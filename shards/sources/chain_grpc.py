"""
Source ``chain-grpc``: the chain stream over gRPC, for public endpoints and nodes without WebSocket.

One call carries all markets of the shard (``grouped``), or each market has its own: a
message of gRPC costs ten times one of the WebSocket, so grouping is the default here.
Each call hears every block. Where a server knows no v2, v1beta1 is read instead.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

import grpc
import grpc.aio

from shards.config import Market
from shards.decoders.chain_grpc import StreamDecoder
from shards.errors import SourceError
from shards.events import Block, Cause
from shards.sources import stubs
from shards.sources.channels import Access
from shards.sources.filters import filters
from shards.sources.reconnecting import Reconnecting
from shards.sources.sink import Sink

log = logging.getLogger(__name__)

_OPTIONS: Final = (
    # Servers allow a ping each five minutes unless data flows, and here it does: each block.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A channel of our own: reconnecting is ours to pace.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class ChainGrpc(Reconnecting):
    """Keeps the calls of a shard running."""

    def __init__(
        self,
        endpoints: Sequence[str],
        markets: Sequence[Market],
        sink: Sink,
        *,
        channels: Sequence[str],
        grouped: bool = True,
        access: Access | None = None,
    ) -> None:
        super().__init__("chain-grpc", endpoints, sink)
        self._markets = list(markets)
        self._access = access or Access()
        self._channels = channels
        self._groups = [self._markets] if grouped else [[market] for market in self._markets]
        self._calls: dict[str, Any] = {}
        self._ids = 0
        self._use(2)

    def _use(self, version: int) -> None:
        """Read this version of the chain stream from now on."""
        self._version = version
        name = "v2" if version == 2 else "v1beta1"
        self._query: Any = stubs.load(f"injective.stream.{name}.query_pb2")
        self._method = (
            "/injective.stream.v2.Stream/StreamV2"
            if version == 2
            else "/injective.stream.v1beta1.Stream/Stream"
        )
        units = self._markets if version == 1 else []
        self._decoder = StreamDecoder(self._query.StreamResponse.FromString, units)

    def decode(self, payload: bytes | memoryview) -> tuple[int, Block]:
        """Decode a payload of this source (pipeline.Decoder)."""
        return self._decoder.decode(payload)

    async def _session(self, endpoint: str) -> None:
        channel = self._access.open_channel(endpoint, options=_OPTIONS)
        stream = channel.unary_stream(
            self._method,
            request_serializer=self._query.StreamRequest.SerializeToString,
            response_deserializer=None,
        )
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        try:
            async with channel, asyncio.TaskGroup() as tasks:
                readers = [
                    tasks.create_task(self._keep_reading(endpoint, stream, group))
                    for group in self._groups
                ]
                reason = await self._ended
                for reader in readers:
                    reader.cancel()
        finally:
            self._calls.clear()
        raise SourceError(endpoint, reason)

    async def _keep_reading(self, endpoint: str, stream: Any, group: list[Market]) -> None:
        """Read one group's call; a call that we ended ourselves is made anew."""
        while not self._ended.done():
            await self._access.turn(endpoint)
            call = stream(self._request(group), metadata=self._access.metadata(endpoint))
            for market in group:
                self._calls[market.market_id] = call
            try:
                await self._read(endpoint, call, group)
                self._end("the server ended the stream")
            except asyncio.CancelledError:
                if not call.cancelled() or self._ended.done():
                    raise
            except grpc.aio.AioRpcError as error:
                self._refused(endpoint, error)

    async def _read(self, endpoint: str, call: Any, group: list[Market]) -> None:
        self._ids += 1
        subscription = self._ids
        sink = self._sink
        sink.subscribed(subscription, [market.market_id for market in group])
        confirmed = False
        async for payload in call:
            ts_recv = time.time_ns()
            if not confirmed:
                confirmed = True
                sink.confirmed(subscription)
                # It came before the payload; nothing is waited for.
                self._access.answered(endpoint, await call.initial_metadata())
            sink.receive(payload, ts_recv, True, subscription)

    def _refused(self, endpoint: str, error: grpc.aio.AioRpcError) -> None:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED and self._version == 2:
            log.warning(
                "this server knows no chain stream v2: reading v1beta1, whose prices and "
                "quantities are cut to the tokens' smallest units"
            )
            self._use(1)
        self._end(self._access.failed(endpoint, error).reason)

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    def _request(self, group: list[Market]) -> Any:
        request = self._query.StreamRequest()
        for name, lists in filters(group, self._channels).items():
            for field, values in lists.items():
                getattr(getattr(request, name), field).extend(values)
        return request

    def resubscribe(self, market_id: str) -> None:
        """Make the call that carries this market anew."""
        call = self._calls.get(market_id)
        if call is not None:
            call.cancel()

    def reconnect(self, cause: Cause, reason: str) -> None:
        """Give the connection up; `run` makes another."""
        if self._calls:
            self._cause = cause
            self._end(reason)
