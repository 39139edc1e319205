"""
Streams of a gRPC server: a bounded queue each, and the ways they end.

When a queue is full its call is evicted, in silence: what was queued still goes out, then
nothing, on a channel that stays READY (seen on injectived v1.20.1).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from tests.simulator import faults
from tests.simulator.grpc_serving import GrpcServer
from tests.simulator.mischief import Hearer, Mischief, Said

GARBAGE = b"\x0a\xff\xff\xff\xff\x7fno protobuf"


class Call(Hearer):
    """One stream of one client."""

    def __init__(
        self, protocol: str, markets: frozenset[str] | None, *, since: int, buffer: int
    ) -> None:
        super().__init__(protocol, markets, since)
        self._buffer = buffer
        self._queue: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._end: tuple[grpc.StatusCode, str] | None = None

    def put(self, messages: Sequence[bytes]) -> bool:
        """Queue the messages of one block; say no, and evict the call, if there is no room."""
        if len(self._queue) >= self._buffer:
            self.is_dead = True
            return False
        self._queue += messages
        self._changed.set()
        if len(self._queue) > self._buffer // 2:
            self._room.clear()
        return True

    def end(self, code: grpc.StatusCode, reason: str) -> None:
        """End the stream with a status, once what is queued has gone out."""
        self.is_dead = True
        self._end = (code, reason)
        self._changed.set()

    def left(self) -> None:
        """The reader has gone, so do not wait for it."""
        self._room.set()

    async def drained(self) -> None:
        """Wait until there is room for more."""
        await self._room.wait()

    async def messages(self, context: Any) -> AsyncIterator[bytes]:
        """Give messages until the stream ends."""
        while True:
            while self._queue:
                yield self._queue.popleft()
            self._room.set()
            if self._end:
                await context.abort(*self._end)
            self._changed.clear()
            await self._changed.wait()


class StreamingServer(GrpcServer):
    """A server whose calls hear blocks."""

    def __init__(self, mischief: Mischief, *, buffer: int) -> None:
        super().__init__(mischief)
        self.buffer = buffer
        self.calls: set[Call] = set()
        self.evicted = 0
        self.messages_sent = 0

    async def serve(self, call: Call, context: Any) -> AsyncIterator[bytes]:
        """Admit a call and give its messages; leaves nothing behind when it ends."""
        await self.admit(context)
        limit = self.mischief.find(faults.StreamLimit, self.protocol)
        if limit and len(self.calls) >= limit.limit:
            call.is_dead = True
            if not limit.silent:
                reason = f"more than {limit.limit} streams"
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
        self.calls.add(call)
        if cookie := self.set_cookie():
            await context.send_initial_metadata(cookie)
        try:
            async for message in call.messages(context):
                self.messages_sent += 1
                yield message
        finally:
            self.calls.discard(call)
            call.left()

    async def drained(self) -> None:
        """Wait until every call has room for more."""
        for call in list(self.calls):
            await call.drained()

    def cut(self) -> None:
        """End every stream as a lost connection does."""
        for call in self.calls:
            call.end(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    def put(self, call: Call, said: Said, messages: Sequence[bytes]) -> None:
        """Queue a block for a call, or what a fault replaces it with."""
        match said.instead:
            case faults.Garbage():
                messages = [GARBAGE]
            case faults.Oversized(size=size):
                # An unknown field: parsers skip it, limits do not.
                messages = [*messages[:-1], b"".join(messages[-1:]) + _padding(size)]
            case faults.BlockError():
                call.end(grpc.StatusCode.INTERNAL, "failed to parse chain stream event")
                return
            case faults.StreamError():
                height = said.block.height
                reason = f"events height {height + 1} - expected height {height}"
                call.end(grpc.StatusCode.INTERNAL, f"block height mismatch ({reason})")
                return
        if messages and not call.put(messages):
            self.evicted += 1


def _padding(size: int) -> bytes:
    # Field 100, length-delimited, with a length of five bytes.
    length = bytes((size >> shift & 0x7F) | 0x80 for shift in (0, 7, 14, 21)) + bytes((size >> 28,))
    return b"\xa2\x06" + length + bytes(size)
