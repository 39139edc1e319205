"""The gRPC chain stream, ``injective.stream.v2.Stream/StreamV2``; v1beta1 is UNIMPLEMENTED."""

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from shards.adapters.messages import INJECTIVE
from tests.simulator.exchange import Exchange, SimBlock
from tests.simulator.filters import Filter, from_proto
from tests.simulator.grpc_calls import Call, StreamingServer
from tests.simulator.grpc_serving import Handlers, streaming
from tests.simulator.mischief import Mischief
from tests.simulator.stream_proto import LevelsProto, ProtoBlock

_query: Final[Any] = INJECTIVE.package("injective.stream.v2")


class _StreamCall(Call):
    """A call, and what it asked for."""

    def __init__(self, filter_: Filter, *, since: int, buffer: int) -> None:
        super().__init__("stream", filter_.markets, since=since, buffer=buffer)
        self.filter = filter_


class StreamServer(StreamingServer):
    """The chain stream of one exchange."""

    protocol = "stream"

    def __init__(self, exchange: Exchange, mischief: Mischief, *, buffer: int = 100) -> None:
        super().__init__(mischief, buffer=buffer)
        self._exchange = exchange
        self._levels = LevelsProto()

    def handlers(self) -> Handlers:
        """Return the one method there is."""
        method = streaming(self._stream, _query.StreamRequest)
        return {"injective.stream.v2.Stream": {"StreamV2": method}}

    async def _stream(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        try:
            filter_ = from_proto(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            return
        call = _StreamCall(filter_, since=self._exchange.height + 1, buffer=self.buffer)
        async for message in self.serve(call, context):
            yield message

    def publish(self, block: SimBlock) -> None:
        """Queue a block for every call."""
        made = ProtoBlock(self._exchange.by_id, block, self._levels)
        for call in list(self.calls):
            assert isinstance(call, _StreamCall)
            for said in self.mischief.say(block, call):
                telling = made
                if said.block is not block:
                    telling = ProtoBlock(self._exchange.by_id, said.block, self._levels)
                self.put(call, said, [telling.message(call.filter)])
