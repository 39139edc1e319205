"""The chain's query servers and event providers, asked which chain they have."""

from typing import Any, Final

import grpc.aio

from shards.adapters.injective_chain.heights import height_in
from shards.adapters.messages import INJECTIVE
from shards.net.access import Access
from shards.protocol.chain import Mark, NodeView, Role
from shards.protocol.errors import SourceError

_TIMEOUT_S: Final = 2.0
_MS: Final = 1_000_000
_UNTOLD: Final = Mark(0, "", 0)
_UNKNOWN_BLOCK: Final = frozenset({"NOT_FOUND", "OUT_OF_RANGE", "INVALID_ARGUMENT", "UNKNOWN"})
"""Statuses with which a server says that it does not have a block."""


class _GrpcWitness:
    """What both have: a channel, opened at the first question."""

    endpoint: str
    is_costly = True
    _service: str

    def __init__(self, endpoint: str, access: Access) -> None:
        self.endpoint = endpoint
        self._access = access
        self._channel: grpc.aio.Channel | None = None

    async def _ask(self, method: str, request: Any) -> tuple[Any, dict[str, str]]:
        if self._channel is None:
            self._channel = self._access.open_channel(self.endpoint)
        stub = INJECTIVE.stub(self._service, self._channel)
        return await self._access.query(
            self.endpoint, getattr(stub, method), request, timeout_s=_TIMEOUT_S
        )

    async def _ask_for_block(self, method: str, request: Any) -> Any:
        """Ask for a block; None where the server does not have it."""
        try:
            answer, _ = await self._ask(method, request)
        except SourceError as error:
            if error.status in _UNKNOWN_BLOCK:
                return None
            raise
        return answer

    async def close(self) -> None:
        """Close the channel."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()


class QueryWitness(_GrpcWitness):
    """A server of the chain's queries: it names its network, and has blocks with their hashes."""

    role: Role = "queries"
    every_s = 2.0
    _service = "cosmos.base.tendermint.v1beta1.Service"

    async def view(self) -> NodeView:
        """Ask for the node's network; the height is that of the answer."""
        request = INJECTIVE.message("cosmos.base.tendermint.v1beta1.GetNodeInfoRequest")()
        answer, heard = await self._ask("GetNodeInfo", request)
        network = answer.default_node_info.network
        if not network:
            raise SourceError(self.endpoint, "GetNodeInfo: it names no network")
        return NodeView(network, Mark(height_in(self.endpoint, heard), "", 0), _UNTOLD, False)

    async def block(self, height: int) -> Mark | None:
        """Ask for a block's hash and time."""
        name = "cosmos.base.tendermint.v1beta1.GetBlockByHeightRequest"
        request = INJECTIVE.message(name)(height=height)
        answer = await self._ask_for_block("GetBlockByHeight", request)
        if answer is None or not answer.block_id.hash:
            return None
        made = answer.sdk_block.header.time or answer.block.header.time
        ns = made.seconds * 1_000 * _MS + made.nanos
        return Mark(height, answer.block_id.hash.hex().upper(), ns if 0 < ns < 1 << 63 else 0)


class EventWitness(_GrpcWitness):
    """An event provider: it names no network, but its blocks have their times."""

    role: Role = "events"
    every_s = 10.0
    _service = "event_provider_api.EventProviderAPI"

    async def view(self) -> NodeView:
        """Ask how far it is."""
        request = INJECTIVE.message("event_provider_api.GetLatestHeightRequest")()
        answer, _ = await self._ask("GetLatestHeight", request)
        height = answer.data.height
        if not 0 < height < 1 << 63:
            raise SourceError(self.endpoint, answer.e or f"GetLatestHeight: {height} is no height")
        return NodeView("", Mark(height, "", 0), _UNTOLD, False)

    async def block(self, height: int) -> Mark | None:
        """Ask for a block's time, in whole milliseconds."""
        name = "event_provider_api.GetABCIBlockEventsAtHeightRequest"
        request = INJECTIVE.message(name)(height=height)
        answer = await self._ask_for_block("GetABCIBlockEventsAtHeight", request)
        if answer is None or answer.raw_block.height != height:
            return None
        ns = answer.raw_block.block_timestamp * _MS
        return Mark(height, "", ns if 0 < ns < 1 << 63 else 0)
