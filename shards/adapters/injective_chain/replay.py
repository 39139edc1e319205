"""Fetch lost blocks from the node's own record of them, several at once, at a pace."""

import asyncio
import datetime
import logging
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from shards.adapters.injective_chain import block_results
from shards.adapters.interface import BlockGone, ReplaySource, TimeOf
from shards.adapters.messages import INJECTIVE
from shards.net.access import Access
from shards.net.rpc import Rpc
from shards.protocol.errors import DecodeError, SourceError
from shards.protocol.events import Block

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 40
"""A block that streams out is queryable a moment later; and a node may be restarting."""


class _Header(msgspec.Struct):
    time: str


class _HeaderResult(msgspec.Struct):
    header: _Header | None = None


class _HeaderAnswer(msgspec.Struct):
    result: _HeaderResult | None = None


_header: Final = msgspec.json.Decoder(_HeaderAnswer)

_TIMEOUT_S: Final = 5.0

_GONE: Final = ("lowest height is", "is not available", "pruned")


class RpcReplay:
    """Lost blocks from CometBFT's ``block_results`` (decoders/block_results.py)."""

    def __init__(self, rpc: Rpc, *, with_extras: bool = False) -> None:
        self.name = f"rpc {rpc.endpoint}"
        self._rpc = rpc
        self._with_extras = with_extras

    async def fetch(self, height: int) -> Block:
        """Fetch one block with its time."""
        results, header = await asyncio.gather(
            self._rpc.call("block_results", height=str(height)),
            self._rpc.call("header", height=str(height)),
        )
        try:
            ts_event = block_time_ns(header)
            return block_results.decode(results, ts_event, with_extras=self._with_extras)
        except DecodeError as error:
            if any(text in error.reason for text in _GONE):
                raise BlockGone(error.reason) from None
            raise SourceError(self._rpc.endpoint, error.reason) from None

    async def aclose(self) -> None:
        """Drop the connection."""
        self._rpc.close()


class EventProviderReplay:
    """Lost blocks from an event provider, which keeps them longer than most nodes do."""

    def __init__(
        self, endpoint: str, access: Access | None = None, *, with_extras: bool = False
    ) -> None:
        self._with_extras = with_extras
        self.name = f"event provider {endpoint}"
        self._endpoint = endpoint
        self._query: Any = INJECTIVE.package("event_provider_api")
        self._access = access or Access()
        self._channel = self._access.open_channel(endpoint)
        self._stub = INJECTIVE.stub("event_provider_api.EventProviderAPI", self._channel)

    async def fetch(self, height: int) -> Block:
        """Fetch one block with its time."""
        request = self._query.GetABCIBlockEventsAtHeightRequest(height=height)
        method = self._stub.GetABCIBlockEventsAtHeight
        try:
            answer, _ = await self._access.query(
                self._endpoint, method, request, timeout_s=_TIMEOUT_S
            )
            block = block_results.decode_raw(answer.raw_block, with_extras=self._with_extras)
        except SourceError as error:
            if error.status in ("NOT_FOUND", "OUT_OF_RANGE"):
                raise BlockGone(str(error)) from None
            raise
        except DecodeError as error:
            raise SourceError(self._endpoint, error.reason) from None
        if block.height != height:
            raise SourceError(self._endpoint, answer.e or f"no block {height} in the answer")
        return block

    async def aclose(self) -> None:
        """Close the channel."""
        await self._channel.close()


def block_time_ns(answer: bytes) -> int:
    """
    Read a block's time from an answer of ``header``, in ns, cut to the ms as the stream has it.

    Raises:
        DecodeError: If the answer is an error, or not of this format.

    """
    try:
        result = _header.decode(answer).result
        if result is None or result.header is None:
            raise DecodeError("", f"header: {answer[:300].decode(errors='replace')}")
        # Nanoseconds as CometBFT prints them are more than datetime can read.
        text = result.header.time.rstrip("Z")
        seconds, _, fraction = text.partition(".")
        whole = datetime.datetime.fromisoformat(seconds + "+00:00")
        return int(whole.timestamp()) * 1_000_000_000 + int(fraction[:3].ljust(3, "0")) * 1_000_000
    except (msgspec.DecodeError, ValueError) as error:
        raise DecodeError("", f"not a header answer: {error}") from None


def times_by(rpc: Rpc) -> TimeOf:
    """Return what asks a node when a block was made, for those who know blocks by time only."""

    async def time_of(height: int) -> int:
        try:
            return block_time_ns(await rpc.call("header", height=str(height)))
        except DecodeError as error:
            raise BlockGone(f"not even its time: {error.reason}") from None

    return time_of


class Replayer:
    """Tries each replay source in turn, and each block for a while."""

    def __init__(self, sources: Sequence[ReplaySource]) -> None:
        self._sources = sources

    async def aclose(self) -> None:
        """Close every source's connection."""
        for source in self._sources:
            await source.aclose()

    async def fetch(self, height: int) -> Block | None:
        """Return the block, or None where no source has it any more."""
        reason = "no replay source is configured"
        for attempt in range(_ATTEMPTS):
            gone = 0
            for source in self._sources:
                try:
                    return await source.fetch(height)
                except BlockGone as error:
                    gone += 1
                    reason = str(error)
                except SourceError as error:
                    reason = str(error)
            if gone == len(self._sources):
                break
            await asyncio.sleep(min(0.1 * (attempt + 1), 1.0))
        log.warning("block %d cannot be had: %s", height, reason)
        return None
