"""Fetch lost blocks from the nodes' record, several at once, rate limited."""

import asyncio
import datetime
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from shards.adapters.injective_chain import block_results
from shards.adapters.interface import BlockGone, ReplaySource, TimeOf, Unable
from shards.adapters.messages import INJECTIVE
from shards.net.access import Access
from shards.net.rpc import Rpc, latest_height
from shards.protocol.errors import UNREADABLE, DecodeError, SourceError
from shards.protocol.events import Block

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 40
"""A block is queryable shortly after it is streamed; a node may also be restarting."""
_SLOW_S: Final = 15.0
"""Time limit for one block's record."""
_SLOW_TRIES: Final = 2
"""Tries for a block that a source does not return in time, although it answers otherwise."""
_UNABLE_S: Final = 600.0
"""How long a source that keeps no blocks is skipped; its configuration may change."""
_QUIET_S: Final = 5.0
"""Seconds between two log lines about unavailable blocks."""
_NEVER: Final = frozenset({"UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED"})
"""gRPC statuses that a retry does not change."""


class _Header(msgspec.Struct):
    time: str


class _HeaderResult(msgspec.Struct):
    header: _Header | None = None


class _HeaderAnswer(msgspec.Struct):
    result: _HeaderResult | None = None


_header: Final = msgspec.json.Decoder(_HeaderAnswer)

_TIMEOUT_S: Final = 5.0

_GONE: Final = ("lowest height is", "is not available", "pruned")
_DISCARDED: Final = "not persisting finalize block responses"
_NO_RESULTS: Final = "could not find results for height"
_SETTING: Final = "set discard_abci_responses = false under [storage] in its config.toml"


Vet: TypeAlias = Callable[[], Awaitable[str]]


async def believe() -> str:
    """Take what answers at its word: where nothing is known that it could be held against."""
    return ""


class RpcReplay:
    """Lost blocks from CometBFT's ``block_results`` (block_results.py)."""

    def __init__(
        self,
        rpc: Rpc,
        access: Access | None = None,
        *,
        with_extras: bool = False,
        vet: Vet = believe,
    ) -> None:
        """``foreign`` returns why this node's chain is not ours; empty if it is."""
        self.name = f"rpc {rpc.endpoint}"
        self._vet = vet
        self._rpc = rpc
        self._access = access
        self._with_extras = with_extras
        self._slow: Counter[int] = Counter()
        """How often a block's record was too slow although its header arrived."""

    async def fetch(self, height: int) -> Block:
        """Fetch one block with its time."""
        if reason := await self._vet():
            raise BlockGone(f"not asked: {reason}")
        header, results = await asyncio.gather(
            self._rpc.call("header", height=str(height)),
            self._results(self._rpc, height),
            return_exceptions=True,
        )
        if isinstance(header, SourceError):
            # Another large answer on the same connection may be the cause.
            raise SourceError(header.endpoint, header.reason, status=header.status)
        if isinstance(header, BaseException):
            raise header
        if isinstance(results, SourceError) and results.too_large:
            # All requests on that connection failed with it: is this block the cause?
            results = await self._alone(height)
        if isinstance(results, SourceError) and results.status == "DEADLINE_EXCEEDED":
            self._slow[height] += 1
            if self._slow[height] >= _SLOW_TRIES:
                raise BlockGone(f"its results did not come within {_SLOW_S:.0f} s")
        if isinstance(results, BaseException):
            raise results
        self._slow.pop(height, None)
        try:
            ts_event = block_time_ns(header)
            return block_results.decode(results, ts_event, with_extras=self._with_extras)
        except DecodeError as error:
            raise await self._refusal(height, error.reason) from None

    async def _results(self, rpc: Rpc, height: int) -> bytes:
        return await rpc.call("block_results", within_s=_SLOW_S, height=str(height))

    async def _alone(self, height: int) -> bytes | SourceError | BlockGone:
        rpc = Rpc(self._rpc.endpoint, self._access)
        try:
            return await self._results(rpc, height)
        except SourceError as error:
            return BlockGone(f"its {error.reason}") if error.too_large else error
        finally:
            rpc.close()

    async def _refusal(self, height: int, reason: str) -> Exception:
        """Classify an error: no blocks ever, not this block, or not now."""
        if _DISCARDED in reason:
            return Unable(f"the node keeps no block results: {_SETTING}")
        if "Method not found" in reason:
            return Unable(f"the node does not serve block_results: {reason}")
        if any(text in reason for text in _GONE):
            return BlockGone(reason)
        # The newest block's results are available shortly after the block.
        if _NO_RESULTS in reason and await latest_height(self._rpc) > height:
            return BlockGone(f"the node has the block without its results: {_SETTING}")
        return SourceError(self._rpc.endpoint, reason)

    async def aclose(self) -> None:
        """Close the connection."""
        self._rpc.close()


class EventProviderReplay:
    """Lost blocks from an event provider, which keeps them longer than most nodes."""

    def __init__(
        self,
        endpoint: str,
        access: Access | None = None,
        *,
        with_extras: bool = False,
        vet: Vet = believe,
    ) -> None:
        """``vet`` says why it has another chain than ours, empty where it has ours."""
        self._vet = vet
        self._with_extras = with_extras
        self.name = f"event provider {endpoint}"
        self._endpoint = endpoint
        self._query: Any = INJECTIVE.package("event_provider_api")
        self._access = access or Access()
        self._channel = self._access.open_channel(endpoint)
        self._stub = INJECTIVE.stub("event_provider_api.EventProviderAPI", self._channel)

    async def fetch(self, height: int) -> Block:
        """Fetch one block with its time."""
        if reason := await self._vet():
            raise BlockGone(f"not asked: {reason}")
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
    Return a block's time from a ``header`` answer, in ns, truncated to ms like the stream's.

    Raises:
        DecodeError: If the answer is an error or has another format.

    """
    try:
        result = _header.decode(answer).result
        if result is None or result.header is None:
            raise DecodeError("", f"header: {answer[:300].decode(errors='replace')}")
        # CometBFT prints nanoseconds, which datetime cannot parse.
        text = result.header.time.rstrip("Z")
        seconds, _, fraction = text.partition(".")
        whole = datetime.datetime.fromisoformat(seconds + "+00:00")
        return int(whole.timestamp()) * 1_000_000_000 + int(fraction[:3].ljust(3, "0")) * 1_000_000
    except (*UNREADABLE, OverflowError) as error:
        raise DecodeError("", f"not a header answer: {error}") from None


def times_by(rpc: Rpc) -> TimeOf:
    """Return a function that gets a block's time from a node, for sources that look up by time."""

    async def time_of(height: int) -> int:
        try:
            return block_time_ns(await rpc.call("header", height=str(height)))
        except DecodeError as error:
            raise BlockGone(f"its time is not available either: {error.reason}") from None

    return time_of


class Replayer:
    """Tries each replay source in turn, and each block several times."""

    def __init__(self, sources: Sequence[ReplaySource]) -> None:
        self._sources = sources
        self._unable: dict[str, tuple[float, str]] = {}
        """Sources that are skipped: until when, and why, by name."""
        self._quiet_until = 0.0
        self._unsaid = 0

    async def aclose(self) -> None:
        """Close every source's connection."""
        for source in self._sources:
            await source.aclose()

    def unable(self) -> dict[str, str]:
        """Return the sources that never have blocks, and why, by name."""
        now = time.monotonic()
        return {name: reason for name, (until, reason) in self._unable.items() if now < until}

    async def fetch(self, height: int) -> Block | None:
        """Return the block, or None if no source has it any more."""
        reasons = self.unable()
        hopeless = set(reasons)
        for attempt in range(_ATTEMPTS):
            for source in [s for s in self._sources if s.name not in hopeless]:
                try:
                    return await source.fetch(height)
                except (SourceError, BlockGone, Unable) as error:
                    reasons[source.name] = str(error)
                    if self._is_final(source, error):
                        hopeless.add(source.name)
            if len(hopeless) == len(self._sources):
                break
            await asyncio.sleep(min(0.1 * (attempt + 1), 1.0))
        self._say_gone(height, "; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
        return None

    def _is_final(self, source: ReplaySource, error: Exception) -> bool:
        """Return whether asking this source again for this block is useless."""
        never = isinstance(error, SourceError) and error.status in _NEVER
        if isinstance(error, Unable) or never:
            is_new = source.name not in self.unable()
            self._unable[source.name] = time.monotonic() + _UNABLE_S, str(error)
            if is_new:
                self._say_unable(source, error)
            return True
        return isinstance(error, BlockGone) or (isinstance(error, SourceError) and error.too_large)

    def _say_unable(self, source: ReplaySource, error: Exception) -> None:
        """Log a source without blocks, if another follows; otherwise the block's line says why."""
        if len(self.unable()) < len(self._sources):
            log.warning("%s: %s; asking the next source", source.name, error)
        else:
            self._quiet_until = 0.0

    def _say_gone(self, height: int, reason: str) -> None:
        """Log an unavailable block; of many in a row, only their number."""
        now = time.monotonic()
        if now < self._quiet_until:
            self._unsaid += 1
            return
        also = f" ({self._unsaid} more since the last line like this)" if self._unsaid else ""
        reason = reason or "no replay source is configured"
        log.warning("block %d is not available: %s%s", height, reason, also)
        self._quiet_until, self._unsaid = now + _QUIET_S, 0
